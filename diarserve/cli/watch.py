"""A folder whose new recordings are transcribed as they come."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from diarserve.client.batch import SUFFIXES

PERIOD = 0.5  # seconds between looks


async def appearing(folder: Path, stopped: asyncio.Event) -> AsyncIterator[Path]:
    """Every recording in the folder once, those that are there already too, until stopped. One that is still being
    written, as its size or time changes between two looks, comes when it is whole."""
    told: set[Path] = set()
    before: dict[Path, tuple[int, int]] = {}
    while True:
        now = await asyncio.to_thread(_recordings, folder)
        for path in sorted(now.keys() - told):
            if now[path] == before.get(path) and now[path][0]:
                told.add(path)
                yield path
        told &= now.keys()  # one that was removed may come again
        before = now
        try:
            await asyncio.wait_for(stopped.wait(), PERIOD)
        except TimeoutError:
            continue
        return


def _recordings(folder: Path) -> dict[Path, tuple[int, int]]:
    found: dict[Path, tuple[int, int]] = {}
    for path in folder.iterdir():
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            try:
                stat = path.stat()
            except FileNotFoundError:  # just now
                continue
            found[path] = (stat.st_size, stat.st_mtime_ns)
    return found


@contextmanager
def stopped_by_signal() -> Iterator[asyncio.Event]:
    """Set by the first Ctrl-C or SIGTERM; the second does what it always does."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop() -> None:
        stopped.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        yield stopped
    finally:
        stop()
