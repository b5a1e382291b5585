"""The data directory holds what people said: it is for the server's user alone."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from diarserve.tasks.store.protocol import StoreError

log = logging.getLogger(__name__)

DATABASE, INCOMING, DURABLE, TRASH, RESERVE = "tasks.sqlite", "spool", "tasks", "trash", "reserve"
VOICES, BACKUP, OFFLINE_BACKUP, LOCK = "voices", "backup", "offline-backup", "lock"
# What the server makes in it. Whatever else is there is not the server's: the directory may have been there before.
_FILES = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal", RESERVE, LOCK)
_OURS = (*_FILES, INCOMING, DURABLE, TRASH, VOICES, BACKUP, OFFLINE_BACKUP)


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


@contextmanager
def offline_backup(folder: Path) -> Iterator[Path]:
    """An empty folder in the data directory, until the block ends: for a backup that no server makes. Raises StoreError
    while another is made."""
    own = folder / OFFLINE_BACKUP
    try:
        remove_abandoned_backup(folder)
        own.mkdir(0o700)
        with _locked(own):
            try:
                yield own
            finally:
                shutil.rmtree(own, ignore_errors=True)
    except (BlockingIOError, FileExistsError):
        raise StoreError(f"A backup of {folder} is being made already.") from None


def remove_abandoned_backup(folder: Path) -> None:
    """What an offline backup left that was killed. Raises BlockingIOError for one that is being made."""
    own = folder / OFFLINE_BACKUP
    with suppress(FileNotFoundError), _locked(own):
        shutil.rmtree(own)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Gone with the process. Raises BlockingIOError where another has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


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
