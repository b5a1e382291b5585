"""Requests to one server: address, access key, and what is tried again."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

import diarserve
from diarserve.client import errors, retries
from diarserve.client.errors import ClientError, Unreachable

DEFAULT_URL = "http://127.0.0.1:8000"
API = "/api/v1/parallel"

_CONNECT = 10.0  # seconds
ANSWER = 300.0  # seconds without a byte of an answer
_SILENCE = 45.0  # seconds: the server says something every 15 s while it streams events

Query = Iterable[tuple[str, str]]
T = TypeVar("T")


class Connection:
    """Errors of all methods: ServerError for what the server refuses, Unreachable where none answers."""

    def __init__(self, url: str | None, api_key: str | None, patience: float, tls: ssl.SSLContext | None) -> None:
        self.url = (url or os.environ.get("DIARSERVE_URL") or DEFAULT_URL).rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"{self.url} is no address of a server, such as {DEFAULT_URL}")
        self.patience = patience
        api_key = api_key or os.environ.get("DIARSERVE_API_KEY")
        self._headers = {"User-Agent": f"diarserve-client/{diarserve.__version__}"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        data: Callable[[], aiohttp.FormData | bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool = True,
        silence: float = ANSWER,
    ) -> bytes:
        """The body of the answer. data: makes the request's body, for each try. again: whether the call may be made
        again where the connection broke, as nothing happens twice; what the server has refused may be in any case.
        silence: seconds without a byte of the answer."""
        pauses = retries.Pauses(self.patience)
        while True:
            try:
                async with self._answer(method, path, query, data and data(), headers or {}, silence) as answer:
                    return await answer.read()
            except Unreachable as error:
                if not again:
                    raise
                await pauses.after(error)
            except ClientError as error:
                await pauses.after(error)

    async def ask(self, kind: type[T], method: str, path: str, query: Query = ()) -> T:
        return decoded(await self.call(method, path, query=query), kind)

    @asynccontextmanager
    async def streamed(
        self, path: str, method: str = "GET", *, silence: float = _SILENCE
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """An answer as it comes, of events by default, tried once. silence: seconds without a byte of it."""
        async with self._answer(method, path, (), None, {}, silence) as answer:
            yield answer.content.iter_any()

    @asynccontextmanager
    async def websocket(self, path: str, query: Query) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Tried once."""
        url = self.url.replace("http", "ws", 1) + API + path
        try:
            socket = await self._opened().ws_connect(url, params=list(query), max_msg_size=0)
        except aiohttp.WSServerHandshakeError as error:
            raise await self._refusal(path, query, error) from error
        except (aiohttp.ClientConnectionError, ConnectionError, TimeoutError) as error:
            raise self._unreachable(error) from error
        try:
            yield socket
        finally:
            await socket.close()

    async def _refusal(self, path: str, query: Query, error: aiohttp.WSServerHandshakeError) -> ClientError:
        """Why a handshake was refused. aiohttp keeps no more than the status: the same request without a handshake
        tells the reason where it is the request, and not that all sessions are taken."""
        try:
            await self.call("GET", path, query=query, again=False)
        except errors.ServerError as told:
            if told.status == error.status:
                return told
        except ClientError:
            pass
        code = "queue_full" if error.status == 429 else errors.NO_CODE
        after = _seconds(error.headers.get("Retry-After") if error.headers else None)
        message = f"The server refused the live session ({error.status})."
        return errors.made(error.status, code, message, retry_after=after)

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Query,
        data: aiohttp.FormData | bytes | None,
        headers: Mapping[str, str],
        silence: float,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT, sock_read=silence)
        try:
            async with self._opened().request(
                method, self.url + API + path, params=list(query), data=data, headers=headers, timeout=timeout
            ) as answer:
                if answer.status >= 400:
                    raise errors.of_answer(
                        answer.status,
                        await answer.read(),
                        reason=answer.reason or "",
                        retry_after=_seconds(answer.headers.get("Retry-After")),
                        request_id=answer.headers.get("X-Request-ID", ""),
                    )
                yield answer
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError, TimeoutError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> Unreachable:
        why = str(getattr(error, "os_error", None) or error) or type(error).__name__
        return Unreachable(
            f"{self.url} does not answer: {why}", "Is this its address, and does `diarserve serve` run there?"
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:  # made where a loop runs
            connector = aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self._session


def decoded(body: bytes, kind: type[T]) -> T:
    """Raises ClientError for what is no answer of diarserve."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise ClientError(f"The server's answer is not understood: {error}", "Is it a diarserve?") from error


def quoted(id: str) -> str:
    return quote(id, safe="")


def _seconds(header: str | None) -> float | None:
    """Of Retry-After; a date, which diarserve never sends, is none."""
    return float(header) if header and header.isdecimal() else None
