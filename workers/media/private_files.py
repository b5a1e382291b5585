"""Files that nobody but the server's user may read."""

from __future__ import annotations

import os
from typing import BinaryIO


def create_private(path: str | os.PathLike[str]) -> BinaryIO:
    """A file to write, mode 0600. One that is there is emptied. Raises OSError."""
    return open(open_private(path), "wb")


def open_private(path: str | os.PathLike[str]) -> int:
    """As `create_private`: the descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
