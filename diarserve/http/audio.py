"""Audio-hours: what an upload takes of those that its key may send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from diarserve.http.context import SERVICE
from diarserve.http.guard import client
from diarserve.http.uploads import Upload
from workers.media.riff import read_header


@contextmanager
def audio_reserved(request: web.Request, uploads: Sequence[Upload]) -> Iterator[set[str]]:
    """For as long as the recordings are accepted or worked on. The ids of tasks that outlast the block are put into
    the set; what others had reserved and did not use is given back. Raises RateLimited."""
    kept: set[str] = set()
    key, quota = client(request).key, request.app[SERVICE].audio
    if key is None or key.audio_hours_per_day is None:
        yield kept
        return
    tasks = [upload.folder.name for upload in uploads if not upload.error]
    try:
        for upload in uploads:
            if not upload.error:
                seconds = _seconds(upload.folder / "upload")
                quota.reserve(key.owner, upload.folder.name, seconds, key.audio_hours_per_day)
        yield kept
    finally:
        for task in tasks:
            if task not in kept:
                quota.release(key.owner, task)


def _seconds(file: Path) -> float:
    """Of a WAV file; 0 for others, whose length only decoding tells."""
    with file.open("rb") as recording:
        if recording.read(4) not in (b"RIFF", b"RF64", b"BW64"):
            return 0.0
        header = read_header(recording)
    if header is None or not header.byte_rate:
        return 0.0
    return min(header.size, file.stat().st_size) / header.byte_rate
