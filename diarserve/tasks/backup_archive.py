"""The file of a backup: a tar archive that `tar` and `sha256sum -c SHA256SUMS` read without diarserve.

backup.json           which version wrote it: {"diarserve": "0.5.0", "schema": 5, "created": 1790000000.0}
tasks.sqlite          the store, as it was at one moment
keys.json             access keys, as their SHA-256
voices/ID.voice       stored voices, encrypted as they are in the data directory
tasks/TASK/upload     the recording of each task that had not ended; its references of known speakers beside it
SHA256SUMS            of all these. It is the last: an archive without it was cut short
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from msgspec import DecodeError, Struct, ValidationError, json

from diarserve.tasks.store.sqlite_schema import VERSION
from workers.media.private_files import create_private

MANIFEST, SUMS = "backup.json", "SHA256SUMS"
_NAME = re.compile(r"backup\.json|tasks\.sqlite|keys\.json|voices/\w+\.voice|tasks/\w+/(upload|reference-\d+)")
_CHUNK = 2**20  # bytes
_BLOCK = tarfile.BLOCKSIZE

Files = Mapping[str, Path]  # by the name in the archive


class BackupError(Exception):
    """A backup that cannot be restored; the message says why."""


class Manifest(Struct):
    diarserve: str  # the version that wrote it
    schema: int  # of the store
    created: float  # unix seconds


def write_manifest(folder: Path, version: str) -> Path:
    file = folder / MANIFEST
    with create_private(file) as out:
        out.write(json.encode(Manifest(version, VERSION, time.time())))
    return file


def size(files: Files) -> int:
    """Bytes of the archive."""
    lengths = [file.stat().st_size for file in files.values()]
    sums = sum(len(_sum_line("0" * 64, name)) for name in files)
    return sum(_BLOCK + length + _padding(length) for length in (*lengths, sums)) + 2 * _BLOCK


def chunks(files: Files) -> Iterator[bytes]:
    """The archive. The files must not change meanwhile. Raises OSError."""
    sums = b""
    for name, file in files.items():
        length, digest, sent = file.stat().st_size, hashlib.sha256(), 0
        yield _header(name, length)
        with file.open("rb") as content:
            while chunk := content.read(min(_CHUNK, length - sent)):
                digest.update(chunk)
                sent += len(chunk)
                yield chunk
        if sent != length:
            raise OSError(f"{file} was shortened while it was read")
        yield bytes(_padding(length))
        sums += _sum_line(digest.hexdigest(), name)
    yield _header(SUMS, len(sums)) + sums + bytes(_padding(len(sums)))
    yield bytes(2 * _BLOCK)  # the end of an archive


def check(archive: Path) -> Manifest:
    """Read it as `extract` does, and write nothing. Raises BackupError and OSError."""
    return _read(archive, None)


def extract(archive: Path, folder: Path) -> Manifest:
    """Write its files into an empty folder, each on the disk when this returns. Raises BackupError for what is no
    whole backup, or one of a newer version, and OSError."""
    return _read(archive, folder)


def _read(archive: Path, folder: Path | None) -> Manifest:
    found: dict[str, str] = {}
    manifest = b""
    try:
        with tarfile.open(archive, "r|") as members:
            for member in members:
                content = members.extractfile(member) if member.isfile() else None
                if content and member.name == SUMS:
                    _compare(found, content.read())
                    return _supported(manifest)
                if content is None or not _NAME.fullmatch(member.name) or member.name in found:
                    raise BackupError(f"{archive} is no backup of diarserve: it holds {member.name[:200]!r}")
                if member.name == MANIFEST:
                    manifest = content.read(4096)
                    found[member.name] = hashlib.sha256(manifest).hexdigest()
                else:
                    found[member.name] = _take(content, folder / member.name if folder else None)
    except tarfile.TarError as error:
        raise BackupError(f"{archive} is no whole tar archive: {error}") from error
    raise BackupError(f"{archive} was cut short: it has no {SUMS}")


def _take(content: IO[bytes], target: Path | None) -> str:
    """Its SHA-256."""
    digest = hashlib.sha256()
    if target is None:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
        return digest.hexdigest()
    target.parent.mkdir(0o700, parents=True, exist_ok=True)
    with create_private(target) as out:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _compare(found: Mapping[str, str], sums: bytes) -> None:
    said = b"".join(_sum_line(digest, name) for name, digest in found.items())
    if said != sums:
        wrong = [name for name, digest in found.items() if _sum_line(digest, name) not in sums]
        raise BackupError(f"the backup is damaged: {', '.join(wrong) or 'files are missing'}")


def _supported(manifest: bytes) -> Manifest:
    with suppress(DecodeError, ValidationError):
        made = json.decode(manifest, type=Manifest)
        if made.schema > VERSION:
            version = made.diarserve[:50]
            raise BackupError(f"it was made by diarserve {version}, whose store this version cannot read: install that")
        return made
    raise BackupError(f"it has no valid {MANIFEST}")


def _sum_line(digest: str, name: str) -> bytes:
    return f"{digest}  {name}\n".encode()


def _header(name: str, length: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = length, 0o600, int(time.time())
    return member.tobuf(tarfile.GNU_FORMAT)


def _padding(length: int) -> int:
    return -length % _BLOCK
