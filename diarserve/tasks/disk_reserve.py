"""Disk space that nothing but deletions and the start may use.

To delete a row, SQLite first writes: what it overwrites goes through the write-ahead log, as many bytes as the
document has. So on a full disk nothing could be deleted, and a server that was killed could not take back its tasks.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from workers.media.private_files import create_private

_LEAST = 64 * 1024  # bytes that are worth a file


class DiskReserve:
    """A file of `size` bytes that is given up where they are needed, and made again when there is room."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    def take(self) -> None:
        """Make the file, unless it is there; on a disk that is nearly full, as large as it can be."""
        size = self._size
        while size >= _LEAST and not self._path.exists():
            if not self._allocate(size):
                size //= 2

    def give_up(self) -> None:
        self._path.unlink(missing_ok=True)

    def _allocate(self, size: int) -> bool:
        try:
            with create_private(self._path) as file:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink()
            return False
        return True
