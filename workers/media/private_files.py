"""Files that nobody but the server's user may read."""

from __future__ import annotations

import os
from typing import BinaryIO


def create_private(path: str | os.PathLike[str]) -> BinaryIO:
    """A file to write, mode 0600. One that is there is emptied. Raises OSError."""
    return open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600))
