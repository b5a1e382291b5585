"""Live audio over the server's own protocol (docs/live.md): samples out, events in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Final as Constant

import aiohttp
from msgspec import Struct

from diarserve.client import errors
from diarserve.client.connection import decoded
from diarserve.client.document import Document, Word
from diarserve.client.errors import Unreachable

_LARGEST = 256 * 1024  # bytes of a message
_QUIET = 5.0  # seconds without audio after which the server is told that there is more to come


class Finalize:
    """Among the audio: what was heard so far is to become final now, without waiting for silence."""


FINALIZE: Constant = Finalize()

Audio = AsyncIterable[bytes | Finalize] | Iterable[bytes | Finalize]


class Ready(Struct, frozen=True):
    """The first event."""

    task_id: str  # of the transcript, once the session has ended


class SpeechStarted(Struct, frozen=True):
    time: float  # seconds from the session's first sample, as all times


class Interim(Struct, frozen=True):
    """What is heard after the last final word, as far as is known now. It takes the place of the Interim before it."""

    words: tuple[Word, ...]


class Final(Struct, frozen=True):
    """Words that keep their text and times, each told once. first: the number of the first of them in the session."""

    first: int
    utterance: int
    words: tuple[Word, ...]


class Correction(Struct, frozen=True):
    """A better judgement of who said the final words from number `first` up to, not including, `past`."""

    first: int
    past: int
    speaker: str


class UtteranceEnd(Struct, frozen=True):
    """The speech stopped; all words of this utterance are final."""

    utterance: int
    time: float
    finalized: bool = False  # it was asked for


class Lag(Struct, frozen=True):
    seconds: float  # of audio that the server has and has not recognized


class Spoken(Struct, frozen=True):
    """After the end of the audio: every word is told, and the document of the whole is being made."""


class Done(Struct, frozen=True):
    """The last event."""

    document: Document


LiveEvent = Ready | SpeechStarted | Interim | Final | Correction | UtteranceEnd | Lag | Spoken | Done

_KINDS: Mapping[str, type[LiveEvent]] = {
    "ready": Ready,
    "speech_started": SpeechStarted,
    "interim": Interim,
    "final": Final,
    "correction": Correction,
    "utterance_end": UtteranceEnd,
    "lag": Lag,
    "spoken": Spoken,
    "done": Done,
}


class _Type(Struct):
    type: str


class _Problem(Struct):
    code: str
    message: str
    param: str | None = None


async def converse(socket: aiohttp.ClientWebSocketResponse, audio: Audio) -> AsyncGenerator[LiveEvent, None]:
    """Send the audio, and tell what is heard, up to Done. Raises ServerError where the session breaks, Unreachable
    where the connection does, and what the audio's iterator raises."""
    sending = asyncio.create_task(_send(socket, audio))
    sending.add_done_callback(lambda task: _give_up(task, socket))
    try:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            event = _event(message.data.encode())
            if event is not None:
                yield event
            if isinstance(event, Done):
                return
        if sending.done():
            sending.result()
        reason = "the server is stopping" if socket.close_code == 1001 else f"close code {socket.close_code}"
        raise Unreachable(f"The live session broke off: {reason}.", "Begin another one.")
    finally:
        sending.cancel()
        await asyncio.wait((sending,))


def _give_up(sending: asyncio.Task[None], socket: aiohttp.ClientWebSocketResponse) -> None:
    """The audio's iterator has failed: the session ends, so that whoever reads events hears of it."""
    if not sending.cancelled() and sending.exception():
        closing = asyncio.ensure_future(socket.close())
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)


_closing: set[asyncio.Future[bool]] = set()  # the loop itself keeps no task alive


def _event(data: bytes) -> LiveEvent | None:
    """None for one that this client does not know. Raises ServerError for `error`."""
    name = decoded(data, _Type).type
    if name == "error":
        problem = decoded(data, _Problem)
        raise errors.made(503 if problem.code == "not_ready" else 400, problem.code, problem.message, problem.param)
    kind = _KINDS.get(name)
    return decoded(data, kind) if kind else None


async def _send(socket: aiohttp.ClientWebSocketResponse, audio: Audio) -> None:
    pieces = audio if isinstance(audio, AsyncIterable) else _in_a_thread(audio)
    alive = asyncio.create_task(_keep_alive(socket))
    try:
        async for piece in pieces:
            with _connection_errors_are_told_by_the_events():
                await _send_piece(socket, piece)
        with _connection_errors_are_told_by_the_events():
            await socket.send_str('{"type": "finish"}')
    finally:
        alive.cancel()


async def _send_piece(socket: aiohttp.ClientWebSocketResponse, piece: bytes | Finalize) -> None:
    if isinstance(piece, Finalize):
        await socket.send_str('{"type": "finalize"}')
    else:
        for begin in range(0, len(piece), _LARGEST):
            await socket.send_bytes(piece[begin : begin + _LARGEST])


async def _keep_alive(socket: aiohttp.ClientWebSocketResponse) -> None:
    with _connection_errors_are_told_by_the_events():
        while True:
            await asyncio.sleep(_QUIET)
            await socket.send_str('{"type": "keepalive"}')


def _connection_errors_are_told_by_the_events() -> AbstractContextManager[None]:
    """For what is sent: whoever reads events hears of a broken connection."""
    return suppress(aiohttp.ClientError, ConnectionError)


async def _in_a_thread(audio: Iterable[bytes | Finalize]) -> AsyncIterator[bytes | Finalize]:
    """The pieces of an iterator that may block, as a microphone's does."""
    pieces = iter(audio)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
