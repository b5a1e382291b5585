"""A backup becomes a data directory again."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from diarserve.access import key_file
from diarserve.core.configuration import ConfigError
from diarserve.core.settings import Settings
from diarserve.tasks import backup_archive as archive
from diarserve.tasks import data_directory
from diarserve.tasks.backup import ELSEWHERE
from diarserve.tasks.backup_archive import BackupError, Manifest
from diarserve.tasks.data_directory import BACKUP, DATABASE, DURABLE, VOICES
from diarserve.tasks.spool import UPLOAD
from diarserve.tasks.store import sqlite_backup


@dataclass(frozen=True)
class Restored:
    made: Manifest
    tasks: int
    unfinished: int  # of these, tasks that the next server goes on with
    voices: int
    keys: bool  # whether it had access keys


def restore(file: Path, settings: Settings, *, replace: bool = False) -> Restored:
    """Put a backup into the data directory, which no server may use; `replace`: in place of the tasks there. The store
    changes in one transaction: before that the directory is as it was, but for files that the next start removes.
    Raises BackupError, StoreError and OSError."""
    if settings.store.shared:  # no server would ever look at what is restored here
        raise BackupError(ELSEWHERE)
    data_dir = settings.data_dir
    data_directory.prepare(data_dir)
    folder = data_dir / BACKUP
    try:
        with sqlite_backup.opened(data_dir / DATABASE) as store:
            if store.tasks and not replace:
                raise BackupError(f"there are {store.tasks} tasks in {data_dir.resolve()}: --replace puts others there")
            shutil.rmtree(folder, ignore_errors=True)  # of a restore that was interrupted
            folder.mkdir(0o700)
            made = archive.extract(file, folder)
            sqlite_backup.check(folder / DATABASE)
            unfinished = sqlite_backup.unfinished(folder / DATABASE)
            _keep_revocations(folder / "keys.json", key_file.path(settings))
            _add_recordings(folder, data_dir, unfinished)
            store.become(folder / DATABASE)
            _remove_others(data_dir / DURABLE, unfinished)
            voices = _replace_voices(folder, data_dir)
            keys = _replace_keys(folder, key_file.path(settings))
            return Restored(made, store.tasks, len(unfinished), voices, keys)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _add_recordings(folder: Path, data_dir: Path, ids: list[str]) -> None:
    durable = data_dir / DURABLE
    durable.mkdir(0o700, exist_ok=True)
    missing = [id for id in ids if not (folder / DURABLE / id / UPLOAD).exists()]
    if missing:
        raise BackupError(f"it has no recordings of {len(missing)} tasks that had not ended: {', '.join(missing[:5])}")
    for id in ids:
        target = durable / id
        if target.exists():
            shutil.rmtree(target)
        os.rename(folder / DURABLE / id, target)
    _sync(durable)


def _remove_others(durable: Path, ids: list[str]) -> None:
    for each in durable.iterdir():
        if each.name not in ids:
            shutil.rmtree(each)


def _replace_voices(folder: Path, data_dir: Path) -> int:
    voices, new = data_dir / VOICES, folder / VOICES
    shutil.rmtree(voices, ignore_errors=True)
    if not new.exists():
        return 0
    os.rename(new, voices)
    _sync(data_dir)
    return len(list(voices.iterdir()))


def _keep_revocations(backup: Path, file: Path) -> None:
    """A key that was revoked since the backup stays so."""
    if backup.exists():
        try:
            key_file.restored(file, backup)
        except ConfigError as error:
            raise BackupError(f"the access keys cannot be read: {error}") from error


def _replace_keys(folder: Path, target: Path) -> bool:
    """Where the backup has none, those that are there stay: to let everybody in is not for a backup to decide."""
    if not (folder / "keys.json").exists():
        return False
    target.parent.mkdir(0o700, parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    shutil.copy(folder / "keys.json", part)
    part.chmod(0o600)
    part.replace(target)
    _sync(target.parent)
    return True


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
