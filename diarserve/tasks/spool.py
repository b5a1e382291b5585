"""The folders of recordings: incoming ones belong to a request, durable ones to a row of the store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from diarserve.core import descriptors
from diarserve.tasks.data_directory import BACKUP, DURABLE, INCOMING, RESERVE, TRASH, remove_abandoned_backup
from diarserve.tasks.disk_reserve import DiskReserve
from diarserve.tasks.disk_space import DiskSpace

_LARGE = 16 * 2**20  # bytes whose removal takes milliseconds, for which the event loop does not wait
UPLOAD = "upload"  # the file in each folder that holds the recording as it was sent
REFERENCE = "reference-{}"  # the files beside it that hold the references of known speakers, numbered from 0
_REFERENCES = REFERENCE.format("")
_MOST_SPARE = 64  # empty folders that are kept for new tasks


class Spool:
    def __init__(self, data_dir: Path, keep_free: int = 0, reserve: int = 0) -> None:
        """keep_free: bytes of the disk that are left alone. reserve: bytes that are kept for deletions."""
        self.disk = DiskSpace(data_dir, keep_free)
        self.reserve = DiskReserve(data_dir / RESERVE, reserve)
        self.incoming = data_dir / INCOMING
        self.durable = data_dir / DURABLE
        self._trash = data_dir / TRASH
        self._spare: list[str] = []
        self._uncleared: list[str] = []  # trashed folders that no descriptor was left to look into
        self._size = 0  # as last seen
        self._held: list[Path] | None = None  # durable folders that are to be removed, while none may be

    def prepare(self) -> None:
        """Make the folders. What was incoming when an earlier server ended is removed: its request is gone. So is
        what a backup was made of."""
        shutil.rmtree(self.durable.parent / BACKUP, ignore_errors=True)
        with contextlib.suppress(OSError):
            remove_abandoned_backup(self.durable.parent)
        for folder in (self.incoming, self._trash):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(0o700, parents=True)
        self.durable.mkdir(0o700, exist_ok=True)
        _sync(self.durable.parent)

    def sweep(self, unfinished: Collection[str]) -> None:
        """Remove the durable folders of all other tasks: they have ended, or the store does not know them. Of the
        unfinished ones only what was sent stays: whatever else there is will be made again."""
        for folder in self.durable.iterdir():
            if folder.name not in unfinished:
                self.remove(folder)
                continue
            for file in folder.iterdir():
                if not _is_sent(file.name):
                    file.unlink()

    def make_durable(self, folder: Path) -> None:
        """Make an incoming task's folder outlive a crash: what was sent synced, then moved, then the move synced."""
        for file in sent(folder):
            _sync(file)
        _sync(folder)
        os.rename(folder, self.durable / folder.name)
        _sync(self.durable)

    def new(self, id: str) -> Path:
        """An empty incoming folder."""
        folder = self.incoming / id
        if self._spare:
            with contextlib.suppress(OSError):
                os.rename(self._spare.pop(), folder)
                return folder
        folder.mkdir(0o700)
        return folder

    def remove(self, folder: Path) -> None:
        """Remove a task's folder. It is moved away first: a worker that has not received the cancellation yet could put
        a new file into it while it is being removed."""
        if self._held is not None and folder.parent == self.durable:
            self._held.append(folder)
            return
        if trashed := self._discard(folder):
            self._clear(trashed, reuse=False)
        self.clear_again()

    @contextlib.contextmanager
    def nothing_removed(self) -> Iterator[None]:
        """Durable folders that are to be removed meanwhile are removed at the end."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            for folder in held:
                self.remove(folder)

    def clear_again(self) -> None:
        """Remove what could not be removed for want of descriptors."""
        uncleared, self._uncleared = self._uncleared, []
        for trashed in uncleared:
            self._clear(trashed, reuse=False)

    def recycle(self, folder: Path) -> None:
        """Empty the folder of a task that no worker writes to any more, for another task. To make and remove a folder
        for each task takes ext4 twice the time of everything else that is done to files, as it passes over what was
        deleted in the last minute. The files are removed after the answer is sent."""
        if trashed := self._discard(folder):
            asyncio.get_running_loop().call_soon(partial(self._clear, trashed, reuse=True))
        self.clear_again()

    def _discard(self, folder: Path) -> str | None:
        trashed = os.path.join(self._trash, folder.name)
        try:
            os.rename(folder, trashed)
        except FileNotFoundError:
            return None
        except OSError:  # no room for a name in the other folder
            shutil.rmtree(folder, ignore_errors=True)
            return None
        return trashed

    def _clear(self, trashed: str, *, reuse: bool) -> None:
        try:
            with os.scandir(trashed) as scan:
                files = list(scan)
        except OSError as error:
            if not descriptors.are_short(error):
                raise
            self._uncleared.append(trashed)
            return
        if sum(file.stat().st_size for file in files) > _LARGE:
            threading.Thread(target=shutil.rmtree, args=(trashed, True)).start()
        elif reuse and len(self._spare) < _MOST_SPARE:
            for file in files:
                os.unlink(file)
            self._spare.append(trashed)
        else:
            shutil.rmtree(trashed, ignore_errors=True)

    def size(self) -> int:
        """Bytes of all uploads and decoded audio; as last seen, where no descriptor is left to look. Safe in any
        thread: folders and files may vanish meanwhile, as tasks end."""
        try:
            folders = [folder for root in (self.incoming, self.durable) for folder in _entries(root)]
            self._size = sum(_file_size(file) for folder in folders for file in _entries(folder))
        except OSError as error:
            if not descriptors.are_short(error):
                raise
        return self._size


def sent(folder: Path) -> list[Path]:
    """The files in a task's folder that the client sent: the recording, then references of known speakers."""
    return [folder / UPLOAD, *sorted(file for file in folder.iterdir() if file.name != UPLOAD and _is_sent(file.name))]


def _is_sent(name: str) -> bool:
    return name == UPLOAD or (name.startswith(_REFERENCES) and "." not in name)


def _entries(folder: os.PathLike[str]) -> list[os.DirEntry[str]]:
    """Empty where the folder is gone, or goes while it is read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _file_size(file: os.DirEntry[str]) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
