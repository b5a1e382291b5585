"""Audio that workers on other machines fetch: which file a hash stands for."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from asyncio import subprocess
from collections import OrderedDict
from typing import NamedTuple

from workers.messages import AudioRef
from workers.runtime.environment import environment_of

_MOST = 1024  # files that are remembered: more than are worked on
_BLOCK = 1 << 20


class Parcel(NamedTuple):
    path: str
    offset: int  # bytes
    size: int
    sha256: str


class Parcels:
    def __init__(self) -> None:
        self._made: OrderedDict[tuple[str, int, int], asyncio.Task[Parcel]] = OrderedDict()
        self._by_hash: OrderedDict[str, Parcel] = OrderedDict()

    async def make(self, audio: AudioRef) -> Parcel:
        """The file's samples as 16-bit. Made once for a file, beside it: it is gone with the recording's folder. Raises
        OSError."""
        stat = os.stat(audio.path)
        key = (audio.path, stat.st_ino, stat.st_mtime_ns)
        if key not in self._made:
            self._made[key] = asyncio.create_task(_made(audio))
        try:
            parcel = await asyncio.shield(self._made[key])
        except Exception:
            self._made.pop(key, None)
            raise
        self._by_hash[parcel.sha256] = parcel
        self._by_hash.move_to_end(parcel.sha256)
        for known in (self._made, self._by_hash):
            while len(known) > _MOST:
                known.popitem(last=False)
        return parcel

    def get(self, sha256: str) -> Parcel | None:
        return self._by_hash.get(sha256)


async def _made(audio: AudioRef) -> Parcel:
    if audio.pcm is not None:
        size = 2 * audio.samples
        return Parcel(audio.path, audio.pcm, size, await asyncio.to_thread(_hash, audio.path, audio.pcm, size))
    target, samples = f"{audio.path}.s16", audio.samples * audio.channels
    process = await asyncio.create_subprocess_exec(  # numpy is the workers'
        *(sys.executable, "-P", "-m", "workers.media.travel", audio.path, target, str(samples)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment_of({"OPENBLAS_NUM_THREADS": "1"}),
    )
    said, why = await process.communicate()
    if process.returncode:
        raise OSError(f"{audio.path} could not be converted: {why.decode(errors='replace')[-500:]}")
    sha256, size_ = said.decode().split()
    return Parcel(target, 0, int(size_), sha256)


def _hash(path: str, offset: int, size: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        file.seek(offset)
        while size and (block := file.read(min(size, _BLOCK))):
            digest.update(block)
            size -= len(block)
    return digest.hexdigest()
