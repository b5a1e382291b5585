"""A recording that is being sent: streamed to disk, never wholly in memory.

async with receiving(request, limits) as disk:
    error = await receive_recording(part, folder, limits, disk)
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from aiofiles.threadpool import wrap
from aiohttp import StreamReader, web

from diarserve.core.errors import InvalidRequest, ServiceError, StorageFull, TooLarge, UnsupportedMedia
from diarserve.core.settings import MIB, Limits
from diarserve.http import pace
from diarserve.http.context import SERVICE
from diarserve.observe import tracing
from diarserve.tasks.disk_space import DiskSpace
from workers.media.containers import HEAD, sniff
from workers.media.private_files import create_private

READ_SIZE = 64 * 1024  # bytes read at once: larger chunks do not fit into the CPU's cache and take longer
_WRITE_SIZE = MIB  # bytes written at once, in a thread: handing over to it takes as long as writing half of them
_WRITE_AFTER = 0.5  # seconds after which fewer are written: many slow uploads would hold much memory
_WITHOUT_THREAD = MIB  # the first bytes of an upload, which are written in the event loop


class Chunks(Protocol):
    """A part of a body, or the whole."""

    async def read_chunk(self, size: int, /) -> bytes:
        """At most so many bytes; none at its end."""
        ...


class Body:
    """A whole body, as the server or its client reads it."""

    def __init__(self, content: StreamReader) -> None:
        self._content = content

    async def read_chunk(self, size: int, /) -> bytes:
        return await self._content.read(size)


@asynccontextmanager
async def receiving(request: web.Request, limits: Limits) -> AsyncIterator[DiskSpace]:
    """For the block that reads a body and stores it. Raises ServiceError: TooLarge and StorageFull before anything is
    read, Busy where as many uploads are under way as may be."""
    service = request.app[SERVICE]
    if (request.content_length or 0) > limits.max_upload_mib * MIB:
        raise too_large(limits)
    # What cannot fit is refused before it is sent. No room is held for it: slow clients that announce much would take
    # the whole disk from the others. What is written is reserved block by block.
    if not service.spool.disk.fits(request.content_length or 0):
        raise StorageFull("There is no room left for recordings; try again later.", retry_after=60)
    with service.tasks.uploads.request() as place:
        place.grow(1)
        with tracing.span("upload") as span:
            async with pace.expected(request, limits):
                yield service.spool.disk
            if span:
                span.annotate({"http.request.body.size": request.content.total_bytes})


async def receive_recording(
    part: Chunks, folder: Path, limits: Limits, disk: DiskSpace, *, discarding: bool = True
) -> ServiceError | None:
    """Stream a recording into the folder. Returns the error for a file that is no recording: a batch lists it, other
    endpoints raise it. `discarding`: whether such a file is read to its end."""
    head = await _read_head(part)
    error = why_unreadable(head)
    if error and discarding:
        await discard(part, len(head), limits)
    if not error:
        await _store(part, head, folder, limits, disk)
    return error


async def _read_head(part: Chunks) -> bytes:
    """The first bytes, as many as `sniff` needs; fewer of a shorter file."""
    head = b""
    while len(head) < HEAD and (chunk := await part.read_chunk(READ_SIZE)):
        head += chunk
    return head


def why_unreadable(head: bytes) -> ServiceError | None:
    """Why a file that begins so cannot be a recording."""
    if not head:
        return InvalidRequest("The file is empty.", code="empty_file", param="file")
    if sniff(head[:HEAD]) is None:
        return UnsupportedMedia(
            "This is not a recording that can be read. Send WAV, FLAC, MP3, M4A/AAC, OGG, Opus, WebM, MP4 or MKV.",
            param="file",
        )
    return None


async def _store(part: Chunks, head: bytes, folder: Path, limits: Limits, disk: DiskSpace) -> None:
    """Raises TooLarge and StorageFull."""
    # Opened here, not in a thread: if the client disconnected while the thread opens it, nothing would close it.
    with create_private(folder / "upload") as plain:
        file, size = wrap(plain), 0
        while block := await _read_block(part, head):
            size += sum(map(len, block))
            if size > limits.max_upload_mib * MIB:
                raise too_large(limits)
            with disk.reserved(sum(map(len, block))):
                if size > _WITHOUT_THREAD:
                    await file.writelines(block)
                else:
                    plain.writelines(block)
                plain.flush()  # what is written is seen as taken from here on
            head = b""


async def _read_block(part: Chunks, head: bytes) -> list[bytes]:
    """The chunks to write next, `head` first; empty at the end of the part."""
    chunks, size = [head] if head else [], len(head)
    until = time.monotonic() + _WRITE_AFTER
    while size < _WRITE_SIZE and (chunk := await part.read_chunk(READ_SIZE)):
        chunks.append(chunk)
        size += len(chunk)
        if time.monotonic() > until:
            break
    return chunks


async def discard(part: Chunks, size: int, limits: Limits) -> None:
    """Read what is refused to its end, so that the client gets to see the answer instead of a closed connection.
    `size`: bytes of it that have been read. Raises TooLarge."""
    while chunk := await part.read_chunk(READ_SIZE):
        size += len(chunk)
        if size > limits.max_upload_mib * MIB:
            raise too_large(limits)


def too_large(limits: Limits) -> TooLarge:
    return TooLarge(f"The upload is larger than {limits.max_upload_mib} MiB.", param="file")
