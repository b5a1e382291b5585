"""The client for programs without asyncio: the same calls, which block. It may be used from several threads."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from diarserve.client import live, retries
from diarserve.client.aio import AsyncClient, OnProgress
from diarserve.client.batch import Item
from diarserve.client.changes import Change
from diarserve.client.document import Document
from diarserve.client.options import Format, LiveOptions, Options, Recording
from diarserve.client.tasks import Accepted, Event, Progress, TasksPage, TaskStatus
from diarserve.client.voices import StoredVoice

T = TypeVar("T")


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

    def transcribe(
        self,
        recording: Recording | None = None,
        *,
        url: str | None = None,
        filename: str | None = None,
        on_progress: OnProgress | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Document:
        return self._run(
            self._client.transcribe(
                recording,
                url=url,
                filename=filename,
                on_progress=on_progress,
                idempotency_key=idempotency_key,
                **options,
            )
        )

    def submit(
        self,
        recording: Recording | None = None,
        *,
        url: str | None = None,
        filename: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Accepted:
        return self._run(
            self._client.submit(recording, url=url, filename=filename, idempotency_key=idempotency_key, **options)
        )

    def status(self, task_id: str) -> TaskStatus:
        return self._run(self._client.status(task_id))

    def wait(self, task_id: str, *, on_progress: OnProgress | None = None, timeout: float | None = None) -> TaskStatus:
        return self._run(self._client.wait(task_id, on_progress=on_progress, timeout=timeout))

    def events(self, task_id: str) -> Generator[Event, None, None]:
        return self._iterate(self._client.events(task_id))

    def result(self, task_id: str) -> Document:
        return self._run(self._client.result(task_id))

    def download(self, task_id: str, format: Format) -> bytes:
        return self._run(self._client.download(task_id, format))

    def revise(self, task_id: str, changes: Sequence[Change], *, revision: int = 0) -> int:
        return self._run(self._client.revise(task_id, changes, revision=revision))

    def tasks(
        self,
        *,
        status: str | None = None,
        batch_id: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> TasksPage:
        return self._run(self._client.tasks(status=status, batch_id=batch_id, limit=limit, before=before))

    def delete(self, task_id: str) -> TaskStatus:
        return self._run(self._client.delete(task_id))

    def stream(
        self, audio: Iterable[bytes | live.Finalize], **options: Unpack[LiveOptions]
    ) -> Generator[live.LiveEvent, None, None]:
        return self._iterate(self._client.stream(audio, **options))

    def batch(
        self,
        recordings: Path | str | Iterable[Path | str],
        output: Path | str,
        *,
        formats: Sequence[Format] = ("json",),
        at_once: int = 4,
        overwrite: bool = False,
        on_progress: Callable[[Path, Progress], object] | None = None,
        **options: Unpack[Options],
    ) -> Generator[Item, None, None]:
        return self._iterate(
            self._client.batch(
                recordings,
                output,
                formats=formats,
                at_once=at_once,
                overwrite=overwrite,
                on_progress=on_progress,
                **options,
            )
        )

    def voices(self) -> tuple[StoredVoice, ...]:
        return self._run(self._client.voices())

    def enrol_voice(self, name: str, recordings: Sequence[Recording]) -> StoredVoice:
        return self._run(self._client.enrol_voice(name, recordings))

    def delete_voice(self, voice_id: str) -> StoredVoice:
        return self._run(self._client.delete_voice(voice_id))

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

    def _iterate(self, items: AsyncIterator[T]) -> Generator[T, None, None]:
        ended = object()

        async def following() -> T | object:
            return await anext(items, ended)

        async def close() -> None:
            await items.aclose()  # type: ignore[attr-defined]

        try:
            while (item := self._run(following())) is not ended:
                yield item  # type: ignore[misc]
        finally:
            if not self._loop.is_closed():
                self._run(close())
