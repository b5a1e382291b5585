"""What may still be written to the spool's disk: what is free, less what is promised to writes that are under way."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from diarserve.core.errors import StorageFull, StorageTooSmall
from workers.messages import SAMPLE_RATE

_SLOWEST = 1000  # bytes per second of audio in the densest recordings: 8 kbit/s
_SAMPLE = 4  # bytes
_FRESH = 0.5  # seconds that what the disk said holds


def decoded_bound(upload: int, max_seconds: float) -> int:
    """The most bytes that an upload of so many bytes is expected to take when decoded. Denser ones (silence as FLAC)
    end at `max_seconds` all the same, and where the disk is full, with StorageFull.

    >>> decoded_bound(1_000_000, 60.0)
    3840000
    """
    return int(min(upload / _SLOWEST, max_seconds) * SAMPLE_RATE * _SAMPLE)


class DiskSpace:
    """keep_free: bytes that are left alone.

    The disk is asked again after `_FRESH` seconds, and before anything is refused. In between, what is reserved counts
    as gone, also once it is released: for short recordings, asking each time was 4 % of the server's CPU time.
    """

    def __init__(self, folder: Path, keep_free: int = 0) -> None:
        self.promised = 0  # bytes
        self._most = 0  # bytes that an empty disk would give
        self._spare = 0  # bytes that may be reserved before the disk is asked again
        self._asked = -math.inf  # seconds of the monotonic clock
        self.folder = folder
        self._keep_free = keep_free
        self._conversions = 0
        self._released = asyncio.Event()

    def fits(self, size: int) -> bool:
        now = time.monotonic()
        if size > self._spare or now - self._asked > _FRESH:
            disk = shutil.disk_usage(self.folder)
            self._most = disk.total - self._keep_free
            self._spare = disk.free - self._keep_free - self.promised
            self._asked = now
        return size <= self._spare

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """Promise bytes to what the block writes; once written they are seen on the disk. Raises StorageFull, and
        StorageTooSmall where it would not fit on an empty disk either."""
        if not self.fits(size):
            if size > self._most:
                raise StorageTooSmall(
                    f"This may need {size / 1e6:.0f} MB on the server's disk, which would not have room for that if it "
                    "were empty: send a shorter recording."
                )
            raise StorageFull("There is no room left for recordings; try again later.", retry_after=60)
        self.promised += size
        self._spare -= size
        try:
            yield
        finally:
            self.promised -= size
            self._released.set()

    @asynccontextmanager
    async def reserved_for_conversion(self, size: int) -> AsyncIterator[None]:
        """As `reserved`, for decoding and separation, whose bounds are wide: while others run it waits for them."""
        while self._conversions and not self.fits(size):
            self._released.clear()
            await self._released.wait()
        with self.reserved(size):
            self._conversions += 1
            try:
                yield
            finally:
                self._conversions -= 1


def upload_size(path: str) -> int:
    """Bytes; 0 where the file is missing, which the decoder says better."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
