"""What live sessions cost beside other work: the memory of a long session, and what a file moves.

`--memory-minutes`: one session of so much audio, played as fast as the server takes it; the memory (RSS) of the server
and of each worker, every few seconds, and its slope over the second half by least squares.
`--beside-minutes`: two sessions at real time, without and then with a 30 s file sent to the API every 10 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil

from bench import results
from bench.live import Session, play, play_several
from tests.support.recordings import speech, write_wav
from tests.support.server import Server, running

_EVERY = 5.0  # seconds between two looks at the memory
_FILE, _PAUSE = 30.0, 10.0  # seconds of audio of a file, and from one to the next
_MOST_MOVED = 0.5  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory-minutes", type=float, default=60.0, help="of audio; 0: not")
    parser.add_argument("--beside-minutes", type=float, default=3.0, help="each, without files and with them; 0: not")
    asked = results.arguments(parser)
    if asked.memory_minutes:
        with running() as server:
            body, data = asyncio.run(_memory(server, asked.memory_minutes * 60))
        results.publish("live-memory", "Memory of a long live session", body, data, asked)
    if asked.beside_minutes:
        with running() as server, tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "file.wav")
            write_wav(path, speech(_FILE))
            body, data = asyncio.run(_beside(server, asked.beside_minutes * 60, path))
        results.publish("live-beside", "Files beside live sessions", body, data, asked)


async def _memory(server: Server, seconds: float) -> tuple[str, dict[str, Any]]:
    pcm = (speech(seconds).clip(-1, 1) * 32767).astype("<i2").tobytes()
    seen: list[tuple[float, dict[str, float]]] = []  # minutes of audio that are recognized, and MB by process
    session, began = Session(), time.monotonic()
    async with aiohttp.ClientSession() as client:
        looking = asyncio.create_task(_look(server, session, seen))
        await play(client, server, pcm, speed=float("inf"), session=session, until="spoken")
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    took = time.monotonic() - began
    names = sorted(seen[0][1])
    half = [look for look in seen if look[0] >= seconds / 120]
    rows = []
    for name in names:
        sizes = [look[1][name] for look in seen]
        slope = np.polyfit([look[0] / 60 for look in half], [look[1][name] for look in half], 1)[0]
        rows.append([name, f"{sizes[0]:.0f}", f"{max(sizes):.0f}", f"{sizes[-1]:.0f}", f"{slope:+.1f}"])
    head = ("process", "MB at first", "most", "at last", "MB an hour of audio, second half")
    body = f"{seconds / 60:g} min of audio in {took / 60:.1f} min, one session.\n\n{results.table(head, rows)}"
    return body, {"seen": seen, "seconds": took}


async def _look(server: Server, session: Session, seen: list[tuple[float, dict[str, float]]]) -> None:
    while True:
        pids = {"server": [server.pid], **await asyncio.to_thread(server.workers)}
        sizes = {name: sum(psutil.Process(pid).memory_info().rss for pid in of) / 1e6 for name, of in pids.items()}
        seen.append(((session.words[-1].end if session.words else 0.0) / 60, sizes))
        await asyncio.sleep(_EVERY)


async def _beside(server: Server, seconds: float, path: Path) -> tuple[str, dict[str, Any]]:
    rows, p95, took = [], [], list[float]()
    for name in ("alone", "with files"):
        async with _files(server, path if name == "with files" else None, took):
            sessions = await play_several(server, 2, seconds)
        finals = [word.final for session in sessions for word in session.words]
        p95.append(results.percentile(finals, 0.95))
        lag = max(session.lag for session in sessions)
        rows.append([name, len(finals), f"{results.percentile(finals, 0.5):.2f}", f"{p95[-1]:.2f}", f"{lag:.1f}"])
    head = ("two sessions", "words", "to final, p50", "p95", "most lag told")
    verdict = results.verdict("the sessions' p95 moves by (s)", p95[1] - p95[0], _MOST_MOVED, most=True)
    files = f"{len(took)} files of {_FILE:g} s, each answered in {results.spread(took)} s." if took else ""
    return f"{results.table(head, rows)}\n\n{verdict}\n\n{files}", {"p95": p95, "files": took}


@contextlib.asynccontextmanager
async def _files(server: Server, path: Path | None, took: list[float]) -> AsyncIterator[None]:
    """Send the file again and again while the block lasts."""

    async def send() -> None:
        while path:
            began = time.monotonic()
            await asyncio.to_thread(server.transcribe, path)
            took.append(time.monotonic() - began)
            await asyncio.sleep(max(0.0, _PAUSE - took[-1]))

    sending = asyncio.create_task(send())
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


if __name__ == "__main__":
    main()
