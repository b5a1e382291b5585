"""Backups: the store and what belongs to it, as they were at one moment, while the server works or without one."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from diarserve.access import key_file
from diarserve.core.errors import Busy, Unprocessable
from diarserve.core.settings import Settings
from diarserve.tasks import backup_archive as archive
from diarserve.tasks.completion import run_to_completion
from diarserve.tasks.data_directory import BACKUP, DATABASE, DURABLE, VOICES, offline_backup
from diarserve.tasks.spool import Spool, sent
from diarserve.tasks.store.protocol import Store, StoreError
from diarserve.tasks.store.sqlite import SqliteStore
from diarserve.tasks.store.sqlite_backup import opened, unfinished

ELSEWHERE = "The tasks are in a database server: back that up, and restore it, with its own tools."
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Backups:
    """Of a running server, one at a time.

    async with backups.snapshot(diarserve.__version__) as files:
        for chunk in archive.chunks(files): ...
    """

    def __init__(self, store: Store, spool: Spool, settings: Settings) -> None:
        self._store = store
        self._spool = spool
        self._settings = settings
        self._under_way = False

    @asynccontextmanager
    async def snapshot(self, version: str) -> AsyncIterator[archive.Files]:
        """Files that stay as they are until the block ends, by their names in the archive. version: of diarserve.
        Raises Busy while another backup is made, StorageFull, StoreError, and Unprocessable for a store that is no
        file."""
        if not isinstance(self._store, SqliteStore):
            raise Unprocessable(ELSEWHERE)
        if self._under_way:
            raise Busy("A backup is being made already; try again later.", retry_after=30)
        self._under_way = True
        folder = self._settings.data_dir / BACKUP
        try:
            yield await run_to_completion(self._take(self._store, folder, version))
        finally:
            await run_to_completion(self._remove(folder))

    async def _remove(self, folder: Path) -> None:
        await asyncio.to_thread(shutil.rmtree, folder, True)
        self._under_way = False

    async def _take(self, store: SqliteStore, folder: Path, version: str) -> archive.Files:
        await asyncio.to_thread(folder.mkdir, 0o700)
        with self._spool.disk.reserved(_size(self._settings.data_dir / DATABASE)), self._spool.nothing_removed():
            await store.backup(folder / DATABASE)
            return await asyncio.to_thread(_collect, folder, self._settings, version)


@contextmanager
def without_server(settings: Settings, version: str) -> Iterator[archive.Files]:
    """As `Backups.snapshot`, of a data directory that no server uses meanwhile. The store is not brought up to date.
    Raises StoreError."""
    if settings.store.shared:  # the file that may be there is from before
        raise StoreError(ELSEWHERE)
    with offline_backup(_existing(settings.data_dir)) as folder:
        with opened(settings.data_dir / DATABASE) as store:
            store.copy_to(folder / DATABASE)
            files = _collect(folder, settings, version)
        yield files


def _existing(data_dir: Path) -> Path:
    if not (data_dir / DATABASE).exists():
        raise StoreError(f"There is no task store in {data_dir.resolve()}.")
    return data_dir


def _collect(folder: Path, settings: Settings, version: str) -> archive.Files:
    """What goes with the store that was copied into the folder."""
    data_dir = settings.data_dir
    files = {archive.MANIFEST: archive.write_manifest(folder, version), DATABASE: folder / DATABASE}
    keys = key_file.path(settings)
    voices = sorted((data_dir / VOICES).glob("*.voice"))
    wanted = [("keys.json", keys)] if keys.exists() else []
    wanted += [(f"{VOICES}/{file.name}", file) for file in voices]
    for id in unfinished(folder / DATABASE):
        wanted += [(f"{DURABLE}/{id}/{file.name}", file) for file in sent(data_dir / DURABLE / id)]
    for name, file in wanted:
        files[name] = _link(file, folder / name)
    return files


def _link(file: Path, target: Path) -> Path:
    """Another name for a file whose own may be removed, or given to a new file. Where the disk has no such names, a
    copy."""
    target.parent.mkdir(0o700, parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy(file, target)
    return target


def _size(database: Path) -> int:
    """Bytes that a copy may take."""
    files: Sequence[Path] = (database, database.with_name(f"{database.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
