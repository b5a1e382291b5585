"""Recordings and documents as objects: in S3, or in a folder that several servers mount. By obstore
(https://developmentseed.org/obstore), which reads the variables of AWS's own tools.

    objects = Objects.open("s3://bucket/prefix")
    await objects.put("tasks/1/document-1", b"{}")
    await objects.remove("tasks/1/")

Every method raises StoreUnreachable where the store does not answer, and StoreError where it refuses. Messages name
objects, never credentials.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from diarserve.tasks.store.protocol import StoreError, StoreUnreachable
from workers.media.private_files import create_private

_PIECE = 8 * 2**20  # bytes sent or fetched at once, so that no recording is in memory as a whole
_AT_ONCE = 2  # pieces of one recording
_TIMEOUT = timedelta(seconds=60)  # for one piece
_RETRY = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Object:
    key: str
    size: int  # bytes
    changed: datetime


class Objects:
    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        """folder: of a store that is one: what is put into it is synced to its disk."""
        self._store = store
        self._folder = folder

    @classmethod
    def open(cls, url: str) -> Self:
        """s3://bucket/prefix or file:///folder. Raises StoreError."""
        parts = urlsplit(url)
        with _as_store_errors(url):
            if parts.scheme == "file":
                return cls(LocalStore(parts.path, mkdir=True), Path(parts.path))
            # Another vendor's S3 in the same network may have no TLS: its address says so.
            endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
            return cls(
                S3Store.from_url(
                    url,
                    client_options={"timeout": _TIMEOUT, "allow_http": endpoint.startswith("http://")},
                    retry_config={"max_retries": 5, "retry_timeout": _RETRY},
                )
            )

    async def put(self, key: str, data: bytes) -> None:
        with _as_store_errors(key):
            await obstore.put_async(self._store, key, data)
        await self._sync(key)

    async def put_file(self, key: str, file: Path) -> None:
        with _as_store_errors(key):
            await obstore.put_async(self._store, key, file, chunk_size=_PIECE, max_concurrency=_AT_ONCE)
        await self._sync(key)

    async def get(self, key: str) -> bytes | None:
        """None where there is none."""
        with _as_store_errors(key):
            try:
                found = await obstore.get_async(self._store, key)
                return bytes(await found.bytes_async())
            except FileNotFoundError:
                return None

    async def fetch(self, found: Object, file: Path, reserved: Callable[[int], AbstractContextManager[Any]]) -> None:
        """Into a new file, which is there when it is whole. reserved: of disk space, in bytes. Raises FileNotFoundError
        where the object is gone, and OSError."""
        part = file.with_name(file.name + ".part")
        with create_private(part) as target:
            for start in range(0, found.size, _PIECE):
                length = min(_PIECE, found.size - start)
                with _as_store_errors(found.key):
                    piece = await obstore.get_range_async(self._store, found.key, start=start, length=length)
                with reserved(length):
                    await asyncio.to_thread(target.write, piece)
                    target.flush()
        part.rename(file)

    async def under(self, prefix: str) -> AsyncIterator[Object]:
        """prefix: a folder, with a slash at its end."""
        with _as_store_errors(prefix):
            async for page in obstore.list(self._store, prefix):
                for one in page:
                    yield Object(one["path"], one["size"], one["last_modified"])

    async def remove(self, *prefixes_and_keys: str) -> None:
        """Objects by their key, and folders of them by a prefix with a slash at its end. What is gone already is no
        error."""
        for name in prefixes_and_keys:
            keys = [found.key async for found in self.under(name)] if name.endswith("/") else [name]
            with _as_store_errors(name):
                for key in keys:
                    try:
                        await obstore.delete_async(self._store, key)
                    except FileNotFoundError:
                        continue
            if self._folder and name.endswith("/"):
                await asyncio.to_thread(_remove_empty, self._folder / name)

    async def _sync(self, key: str) -> None:
        if self._folder:
            await asyncio.to_thread(_sync, self._folder / key, self._folder)


@contextmanager
def _as_store_errors(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (obstore.exceptions.PermissionDeniedError, obstore.exceptions.UnauthenticatedError) as error:
        raise StoreError(f"The object store refuses {what}: {_line(error)}") from error
    except (BaseError, ValueError) as error:
        raise StoreUnreachable(f"The object store fails at {what}: {_line(error)}") from error


def _line(error: Exception) -> str:
    """Its first: a debug dump follows."""
    return str(error).partition("\n")[0][:300]


def _sync(file: Path, root: Path) -> None:
    """The file and the folders on the way to it."""
    for path in (file, *file.parents):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if path == root:
            return


def _remove_empty(folder: Path) -> None:
    for path in (*sorted(folder.rglob("*"), reverse=True), folder):
        try:
            path.rmdir()
        except OSError:
            continue
