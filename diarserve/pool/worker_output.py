"""What a worker's process writes to its standard output and error beside its log: crash dumps, messages of C libraries,
what a library prints. It becomes records of the server's log, so that every line of the log is of one form."""

from __future__ import annotations

import asyncio
import logging
import os

log = logging.getLogger(__name__)

_READ_SIZE = 64 * 1024  # bytes, what a pipe holds by default
_LONGEST = 8000  # characters of one record


class WorkerOutput:
    """The reading end of a pipe whose other end a process has as its standard output and error."""

    def __init__(self, descriptor: int, worker: str) -> None:
        """`worker`: what the log calls it. The descriptor is closed at the end."""
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._read)

    def close(self) -> None:
        """The process is gone: what it wrote last says why, perhaps."""
        while self._descriptor >= 0 and self._read(logging.ERROR):
            pass
        self._end()

    def _read(self, level: int = logging.WARNING) -> bool:
        """Log what has been written. Whether there was something."""
        try:
            data = os.read(self._descriptor, _READ_SIZE)
        except BlockingIOError:
            return False
        text = data.decode(errors="replace").strip()
        if text:
            log.log(level, "%s wrote: %s", self._worker, text[:_LONGEST])
        if not data:
            self._end()
        return bool(data)

    def _end(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
