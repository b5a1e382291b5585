"""The data directory holds what people said: it is for the server's user alone."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from diarserve.tasks.store.protocol import StoreError

log = logging.getLogger(__name__)

DATABASE, INCOMING, DURABLE, TRASH, RESERVE = "tasks.sqlite", "spool", "tasks", "trash", "reserve"
VOICES, BACKUP, LOCK = "voices", "backup", "lock"
# What the server makes in it. Whatever else is there is not the server's: the directory may have been there before.
_FILES = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", RESERVE, LOCK)
_OURS = (*_FILES, INCOMING, DURABLE, TRASH, VOICES, BACKUP)


def prepare(folder: Path) -> None:
    """Make the directory, mode 0700. One that is there, and what the server has in it, is closed to other users, which
    one line of the log says. Raises OSError where it cannot be made."""
    folder.mkdir(0o700, parents=True, exist_ok=True)
    mode = folder.stat().st_mode
    shared = bool(mode & stat.S_ISVTX)  # as /tmp is: others have their files in it
    try:
        closed = sum([_close(path) for path in (*([] if shared else [folder]), *_entries(folder))])
    except PermissionError as error:  # another user's, such as a volume's root: its owner must do it
        log.warning("other users may read the data directory %s, and it cannot be closed: %s", folder, error)
    else:
        if closed:
            message = "other users could read the data directory %s (mode %03o): %d files and folders are closed now"
            log.warning(message, folder, stat.S_IMODE(mode), closed)


def lock(folder: Path) -> ExitStack:
    """Keep other servers out, of this machine or another that mounts the directory, until it is closed or the process
    ends. The store of one server does so by itself. Raises StoreError where another is in."""
    with ExitStack() as held:
        file = held.enter_context(os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"The data directory {folder} is another server's: give each of several servers its own."
            raise StoreError(message) from None
        return held.pop_all()


def _entries(folder: Path) -> Iterator[Path]:
    """The server's own, at every depth."""
    for path in (folder / name for name in _OURS):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from path.rglob("*")


def _close(path: Path) -> bool:
    """Whether others could do anything with it."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(mode) or not mode & 0o077:
        return False
    os.chmod(path, stat.S_IMODE(mode) & 0o700)
    return True
