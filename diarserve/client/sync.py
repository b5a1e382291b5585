"""The client for programs without asyncio: the same calls, which block. It may be used from several threads."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack, cast

from diarserve.client import live, retries
from diarserve.client.aio import AsyncClient
from diarserve.client.options import LiveOptions

T = TypeVar("T")
P = ParamSpec("P")


def _blocking(
    call: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    @wraps(call)
    def blocking(self: Client, /, *args: P.args, **options: P.kwargs) -> T:
        return self._run(call(self._client, *args, **options))

    return blocking


def _iterating(
    call: Callable[Concatenate[AsyncClient, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Client, P], Generator[T, None, None]]:
    @wraps(call)
    def iterating(self: Client, /, *args: P.args, **options: P.kwargs) -> Generator[T, None, None]:
        return self._iterate(call(self._client, *args, **options))

    return iterating


class Client:
    """One server. AsyncClient has what the arguments mean, and the errors. Callbacks are called in the client's own
    thread.

    >>> with Client("http://127.0.0.1:8000") as client:
    ...     document = client.transcribe("call.wav", num_speakers=2)
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        patience: float = retries.PATIENCE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._client = AsyncClient(url, api_key=api_key, patience=patience, tls=tls)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="diarserve-client", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return self._client.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Further calls raise RuntimeError."""
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    transcribe = _blocking(AsyncClient.transcribe)
    submit = _blocking(AsyncClient.submit)
    status = _blocking(AsyncClient.status)
    wait = _blocking(AsyncClient.wait)
    events = _iterating(AsyncClient.events)
    result = _blocking(AsyncClient.result)
    download = _blocking(AsyncClient.download)
    revise = _blocking(AsyncClient.revise)
    tasks = _blocking(AsyncClient.tasks)
    delete = _blocking(AsyncClient.delete)
    batch = _iterating(AsyncClient.batch)
    voices = _blocking(AsyncClient.voices)
    enrol_voice = _blocking(AsyncClient.enrol_voice)
    delete_voice = _blocking(AsyncClient.delete_voice)

    def stream(
        self, audio: Iterable[bytes | live.Finalize], **options: Unpack[LiveOptions]
    ) -> Generator[live.LiveEvent, None, None]:
        """As AsyncClient.stream; the audio's iterator runs in a thread."""
        return self._iterate(self._client.stream(audio, **options))

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            call.close()
            raise RuntimeError("this client is closed")
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C: what was asked for is given up
            future.cancel()
            raise

    def _iterate(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        ended = object()

        async def following() -> T | object:
            return await anext(items, ended)

        async def close() -> None:
            await items.aclose()

        try:
            while (item := self._run(following())) is not ended:
                yield cast(T, item)
        finally:
            if not self._loop.is_closed():
                self._run(close())
