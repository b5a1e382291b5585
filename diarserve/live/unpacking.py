"""A live session whose audio comes in a container: its bytes to the decoder's process, samples back."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from diarserve.core.errors import ServiceError, TooLarge
from diarserve.pool.live_job import LiveJob, OnOutput
from diarserve.tasks.disk_space import DiskSpace
from workers.media.private_files import open_private
from workers.messages import Done
from workers.messages.live import LiveOutput, LiveSamples

OpenUnpack = Callable[[str, OnOutput], LiveJob]  # of a file


class Unpacking:
    """The bytes are kept in a file until the end: a decoder that dies is replaced by one that begins anew, and tells
    what was not told.

    unpacking = Unpacking(folder / "container", disk, open_job, session.append, most=2**31, on_error=print)
    await unpacking.feed(data)
    await unpacking.end()
    unpacking.close()
    """

    def __init__(
        self,
        path: str,
        disk: DiskSpace,
        open_job: OpenUnpack,
        take: Callable[[bytes], Awaitable[None]],
        most: int,
        on_error: Callable[[ServiceError], None],
    ) -> None:
        """take: is given samples, 16-bit, mono, 16 kHz; no more are decoded while it waits. most: bytes. on_error: told
        why it cannot be decoded any further. Raises NotReady and OSError."""
        self._disk, self._take, self._most, self._on_error = disk, take, most, on_error
        self._path, self._size = path, 0
        self._outputs: deque[LiveSamples] = deque()
        self._changed = asyncio.Event()
        self._descriptor = open_private(path)
        try:
            self._job = open_job(path, self._on_output)
        except BaseException:
            self._remove()
            raise
        self._result = asyncio.ensure_future(self._job.result())
        self._result.add_done_callback(self._ended)

    async def feed(self, data: bytes) -> None:
        """Returns once all that can be decoded by these bytes is taken. Does nothing more where decoding has failed.
        Raises TooLarge, StorageFull, OSError, and what `take` raises."""
        if self._size + len(data) > self._most:
            raise TooLarge(f"A live session's recording has {self._most} bytes at most.")
        if data and not self._result.done():
            self._write(data)
            self._job.append(self._size)
            await self._take_all(end=False)

    async def end(self) -> None:
        """No more bytes come: what is left is taken. Raises what `take` raises."""
        if not self._result.done():
            self._job.append(self._size, end=True)
            await self._take_all(end=True)

    def close(self) -> None:
        """May be called again."""
        self._job.close()
        self._remove()
        self._changed.set()

    async def _take_all(self, *, end: bool) -> None:
        while True:
            while self._outputs:
                output = self._outputs.popleft()
                if output.pcm:
                    await self._take(output.pcm)
                if output.more and not end:
                    self._job.append(self._size, flush=True)
                elif output.seen >= self._size and not end:
                    return
            if self._result.done():
                return
            self._changed.clear()
            await self._changed.wait()

    def _on_output(self, output: LiveOutput) -> None:
        assert isinstance(output, LiveSamples)
        self._outputs.append(output)
        self._changed.set()

    def _ended(self, result: asyncio.Future[Done[Any]]) -> None:
        self._changed.set()
        if not result.cancelled() and (error := result.exception()):
            self._on_error(error if isinstance(error, ServiceError) else ServiceError("The decoder failed."))

    def _write(self, data: bytes) -> None:
        with self._disk.reserved(len(data)):
            left = memoryview(data)
            while left:
                written = os.pwrite(self._descriptor, left, self._size)
                left, self._size = left[written:], self._size + written

    def _remove(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            Path(self._path).unlink(missing_ok=True)
