"""Where live audio comes from: a file at the speed of its sound, standard input as it comes, or a microphone."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from diarserve.cli.command import Failure
from workers.messages import SAMPLE_RATE

_BYTES = 2 * SAMPLE_RATE  # of a second
_PIECE = _BYTES // 10
_CONTAINERS = (b"RIFF", b"OggS", b"fLaC", b"ID3", b"\x1aE\xdf\xa3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1", b"FORM")


async def file(path: Path, speed: float) -> AsyncIterator[bytes]:
    """A recording, so many times as fast as it sounds. Raises Failure for what is none."""
    began, sent = time.monotonic(), 0
    pieces = _pieces(_decoded(str(path)))
    while piece := await asyncio.to_thread(next, pieces, b""):
        sent += len(piece)
        yield piece
        await asyncio.sleep(max(began + sent / _BYTES / speed - time.monotonic(), 0))


def pipe(stream: BinaryIO) -> Iterator[bytes]:
    """16-bit samples, mono, 16 kHz; or a recording, which its first bytes tell. Blocks. Raises Failure."""
    head = stream.peek(16)[:16] if hasattr(stream, "peek") else b""
    if head.startswith(_CONTAINERS) or head[4:8] == b"ftyp":
        yield from _pieces(_decoded(stream))
        return
    read = getattr(stream, "read1", stream.read)  # what is there, and not a whole piece
    while piece := read(_PIECE):
        yield piece


async def microphone(device: str | None) -> AsyncIterator[bytes]:
    """device: its number or a part of its name; default: the system's. Raises Failure where there is none."""
    try:
        import sounddevice
    except ImportError as error:
        raise Failure(
            "A microphone needs the package sounddevice.", hint='pip install "diarserve[microphone]"', code=2
        ) from error
    except OSError as error:
        raise Failure(f"No microphone can be read: {error}.", hint="apt install libportaudio2", code=2) from error
    loop, heard = asyncio.get_running_loop(), asyncio.Queue[bytes]()

    def take(samples: Any, frames: int, times: Any, status: Any) -> None:
        loop.call_soon_threadsafe(heard.put_nowait, bytes(samples))

    named: int | str | None = int(device) if device and device.isdecimal() else device
    try:
        stream = sounddevice.RawInputStream(
            samplerate=SAMPLE_RATE, channels=1, dtype="int16", blocksize=_PIECE // 2, device=named, callback=take
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise Failure(
            f"The microphone cannot be opened: {error}.", hint="`python -m sounddevice` lists the devices.", code=2
        ) from error
    with stream:
        while True:
            yield await heard.get()


async def until(stopped: asyncio.Event, audio: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The audio, up to its end or until stopped."""
    stopping = asyncio.create_task(stopped.wait())
    try:
        while True:
            piece = asyncio.ensure_future(anext(audio, b""))
            await asyncio.wait((piece, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not piece.done():
                piece.cancel()
                await asyncio.wait((piece,))
                return
            if not piece.result():
                return
            yield piece.result()
    finally:
        stopping.cancel()


async def in_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """In a thread that a program which ends does not wait for: it may hang in a read for ever."""
    loop, heard = asyncio.get_running_loop(), asyncio.Queue[bytes | Exception](maxsize=8)

    def hand_over(piece: bytes | Exception) -> None:
        asyncio.run_coroutine_threadsafe(heard.put(piece), loop).result()

    def read() -> None:
        with suppress(RuntimeError, CancelledError):  # the loop has ended
            try:
                for piece in pieces:
                    hand_over(piece)
                hand_over(b"")
            except Failure as error:
                hand_over(error)

    threading.Thread(target=read, name="audio", daemon=True).start()
    while piece := await heard.get():
        if isinstance(piece, Exception):
            raise piece
        yield piece


def standard_input() -> BinaryIO:
    return sys.stdin.buffer


def _decoded(source: Any) -> Iterator[bytes]:
    from workers.media import playback  # FFmpeg, for who plays a recording

    name = source if isinstance(source, str) else "standard input"
    try:
        yield from playback.samples(source)
    except ValueError as error:
        raise Failure(f"{name}: {error}.", hint="Give a recording: WAV, FLAC, MP3, M4A, OGG, WebM.", code=2) from error


def _pieces(samples: Iterator[bytes]) -> Iterator[bytes]:
    """Of a tenth of a second."""
    held = b""
    for each in samples:
        held += each
        while len(held) >= _PIECE:
            yield held[:_PIECE]
            held = held[_PIECE:]
    if held:
        yield held
