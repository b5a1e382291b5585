"""Audio that was fetched to this machine, by the hash of its content, for all workers here."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

Fetch = Callable[[str], AsyncGenerator[bytes, None]]  # by hash, what brings the bytes


class WrongContent(Exception):
    """What came is not what was asked for."""


class AudioCache:
    """Files of at most `limit` bytes together, the least recently used of them gone first. Jobs have links of their
    own, in a folder of their worker, so that what goes from the cache stays until they are done.

        cache = AudioCache(Path("/tmp/diarserve-0"), limit=4 << 30)
        path = await cache.link(sha256, size, job="whisper-3", fetch=fetch)
        cache.release("whisper-3")
        cache.close()
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._files = folder / "files"
        self._limit = limit
        for part in (folder, self._files, folder / "jobs"):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
            if part.stat().st_uid != os.getuid():
                raise PermissionError(f"{part} is another user's")
        with _locked(folder):  # a folder is there before it is locked
            _remove_abandoned(folder / "jobs")
            self._jobs = Path(tempfile.mkdtemp(dir=folder / "jobs"))
            self._held = os.open(self._jobs, os.O_RDONLY)
            fcntl.flock(self._held, fcntl.LOCK_EX)  # gone with this process
        self._fetching: dict[str, asyncio.Lock] = {}

    def close(self) -> None:
        os.close(self._held)
        shutil.rmtree(self._jobs, ignore_errors=True)

    async def link(self, sha256: str, size: int, job: str, fetch: Fetch) -> Path:
        """The file, for the job. Raises WrongContent, and OSError and EOFError where it cannot be fetched."""
        target = self._jobs / job
        async with self._once(sha256):
            if not self._linked(sha256, target):
                await self._fetch(sha256, size, fetch, target)
                self._trim()
        return target

    def release(self, job: str) -> None:
        (self._jobs / job).unlink(missing_ok=True)

    def _linked(self, sha256: str, target: Path) -> bool:
        try:
            os.link(self._files / sha256, target)
        except FileNotFoundError:
            return False
        os.utime(target)
        return True

    async def _fetch(self, sha256: str, size: int, fetch: Fetch, target: Path) -> None:
        digest, left = hashlib.sha256(), size
        try:
            with target.open("wb") as file:
                async for block in fetch(sha256):
                    left -= len(block)
                    if left < 0:
                        break
                    digest.update(block)
                    file.write(block)
            if left or digest.hexdigest() != sha256:
                raise WrongContent(f"{size - left} of {size} bytes came, or others than {sha256[:12]}")
            with contextlib.suppress(FileExistsError):  # another worker here was as quick
                os.link(target, self._files / sha256)
        except BaseException:
            self.release(target.name)
            raise

    def _trim(self) -> None:
        found = []
        for file in self._files.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another worker here was as quick
                found.append((file.stat().st_mtime, file.stat().st_size, file))
        total = sum(size for _, size, _ in found)
        for _, size, file in sorted(found):
            if total <= self._limit:
                return
            file.unlink(missing_ok=True)
            total -= size

    @asynccontextmanager
    async def _once(self, sha256: str) -> AsyncIterator[None]:
        """One job at a time for each file."""
        lock = self._fetching.setdefault(sha256, asyncio.Lock())
        async with lock:
            yield
        if not lock.locked():
            self._fetching.pop(sha256, None)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """What workers left that were killed."""
    for jobs in folder.iterdir():
        with contextlib.suppress(OSError):
            descriptor = os.open(jobs, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(jobs, ignore_errors=True)
            finally:
                os.close(descriptor)
