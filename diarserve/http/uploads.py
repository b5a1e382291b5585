"""A request's multipart body: fields in memory, files streamed to disk, never wholly in memory.

with new_folders(service) as new_folder:
    form = await receive(request, new_folder, service.settings.limits)
    options, upload = parse(Options, form.fields), form.upload
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from aiofiles.threadpool import wrap
from aiohttp import BodyPartReader, content_disposition_filename, hdrs, parse_content_disposition, web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import MultiMapping

from diarserve.core.errors import (
    InvalidRequest,
    ServiceError,
    StorageFull,
    TooLarge,
    UnsupportedMedia,
    UploadTimeout,
)
from diarserve.core.settings import MIB, Limits
from diarserve.service.service import Service
from diarserve.tasks.task import new_id
from workers.media.containers import HEAD, sniff

_FIELD_LIMIT = 64 * 1024  # bytes of one text field
_FIELDS = 100
_CHUNK = 64 * 1024  # read at once: larger ones take longer, since they leave the cache of the CPU
_BLOCK = MIB  # written at once, by a thread: a trip there and back takes as long as to write half of it
_SMALL = MIB  # bytes of an upload that are written without one


@contextmanager
def new_folders(service: Service) -> Iterator[Callable[[], Path]]:
    """What makes a folder for each upload. All are removed at the end, unless they were moved."""
    made: list[Path] = []

    def new_folder() -> Path:
        made.append(service.spool.new(new_id()))
        return made[-1]

    try:
        yield new_folder
    finally:
        for folder in made:
            service.spool.remove(folder)


@dataclass(frozen=True, slots=True)
class Upload:
    folder: Path  # where it lies, as "upload"
    filename: str  # what the client called it: for showing only
    error: ServiceError | None  # why it cannot be a recording


@dataclass(slots=True)
class Form:
    uploads: list[Upload] = field(default_factory=list)
    fields: dict[str, list[str]] = field(default_factory=dict)

    @property
    def upload(self) -> Upload:
        """The one file. Raises ServiceError."""
        if not self.uploads:
            raise InvalidRequest("The field 'file' with the recording is missing.", param="file")
        if len(self.uploads) > 1:
            raise InvalidRequest("Send one 'file'; for several use /api/v1/parallel/batch.", param="file")
        if self.uploads[0].error:
            raise self.uploads[0].error
        return self.uploads[0]

    @property
    def recordings(self) -> list[Upload]:
        """The files of a batch, some of which may be no recordings. Raises InvalidRequest where there is none."""
        if not self.uploads:
            raise InvalidRequest("The field 'files' with the recordings is missing.", param="files")
        return self.uploads


async def receive(request: web.Request, new_folder: Callable[[], Path], limits: Limits) -> Form:
    """Take in the whole body, and the fields that stand in the query. Every file goes into a new folder, which the
    caller removes. Raises ServiceError."""
    if (request.content_length or 0) > limits.max_upload_mib * MIB:
        raise _too_large(limits)
    if not request.content_type.startswith("multipart/"):
        raise InvalidRequest("Send multipart/form-data with the recording in the field 'file'.", param="file")
    form = Form()
    try:
        async with asyncio.timeout(limits.upload_timeout):
            async for part in await request.multipart():
                await _take(part, form, new_folder, limits)
    except TimeoutError as error:
        raise UploadTimeout(f"The upload took longer than {limits.upload_timeout:.0f} s.") from error
    except (ValueError, AssertionError, HttpProcessingError, web.RequestPayloadError) as error:
        # aiohttp's words for no proper form
        raise InvalidRequest("The multipart body is malformed or cut short.") from error
    _take_query(request.query, form)
    return form


async def _take(part: object, form: Form, new_folder: Callable[[], Path], limits: Limits) -> None:
    if not isinstance(part, BodyPartReader):
        raise InvalidRequest("Nested multipart bodies are not understood.")
    field, filename = _names(part.headers.get(hdrs.CONTENT_DISPOSITION))
    if field is None:
        raise InvalidRequest("Nested multipart bodies are not understood.")
    if field not in ("file", "files"):
        if filename:
            await _discard(part, 0, limits)
            message = f"The recording goes into the field 'file' ('files' in a batch); it was sent as {field!r}."
            raise InvalidRequest(message, param=field)
        if len(form.fields) >= _FIELDS:
            raise InvalidRequest(f"More than {_FIELDS} fields were sent.")
        form.fields.setdefault(field, []).append(await _text(part, field))
    elif len(form.uploads) >= limits.max_batch_files:
        raise TooLarge(f"More than {limits.max_batch_files} files were sent.", param="files")
    else:
        folder = new_folder()
        name = (filename or "audio").replace("\\", "/").rpartition("/")[2][:255]
        form.uploads.append(Upload(folder, name, await _save(part, folder, limits)))


def _take_query(query: MultiMapping[str], form: Form) -> None:
    """Raises InvalidRequest where the form says otherwise."""
    for name in set(query):
        given = query.getall(name)
        if form.fields.setdefault(name, given) != given:
            raise InvalidRequest(f"The field '{name}' has one value in the query and another in the form.", param=name)


@lru_cache(256)  # parsing takes as long as reading a short part, and clients often say the same
def _names(disposition: str | None) -> tuple[str | None, str | None]:
    """Of the field, and of the file."""
    _, params = parse_content_disposition(disposition)
    names = content_disposition_filename(params, "name"), content_disposition_filename(params)
    # Bytes that are no UTF-8 come as lone surrogates, which no answer could hold.
    field, filename = (name and name.encode(errors="replace").decode() for name in names)
    return field, filename


async def _text(part: BodyPartReader, field: str) -> str:
    value = bytearray()
    while chunk := await part.read_chunk():
        value += chunk
        if len(value) > _FIELD_LIMIT:
            raise TooLarge(f"The field '{field}' is longer than 64 KiB.", param=field)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The field '{field}' is not UTF-8 text.", param=field) from error


async def _save(part: BodyPartReader, folder: Path, limits: Limits) -> ServiceError | None:
    """Stream a recording into the folder. The error for what is none is returned, for the caller to raise or list."""
    head = await _head(part)
    error = _refusal(head)
    if error:
        await _discard(part, len(head), limits)
    else:
        await _write(part, head, folder, limits)
    return error


async def _head(part: BodyPartReader) -> bytes:
    """As much as it takes to tell what it is; less where there is no more."""
    head = b""
    while len(head) < HEAD and (chunk := await part.read_chunk(_CHUNK)):
        head += chunk
    return head


def _refusal(head: bytes) -> ServiceError | None:
    """Why a file that begins so cannot be a recording."""
    if not head:
        return InvalidRequest("The file is empty.", code="empty_file", param="file")
    if sniff(head[:HEAD]) is None:
        return UnsupportedMedia(
            "This is not a recording that can be read. Send WAV, FLAC, MP3, M4A/AAC, OGG, Opus, WebM, MP4 or MKV.",
            param="file",
        )
    return None


async def _write(part: BodyPartReader, head: bytes, folder: Path, limits: Limits) -> None:
    """Raises TooLarge and StorageFull."""
    room = shutil.disk_usage(folder).free - limits.min_free_mib * MIB
    # Opened here and not in a thread: a client that goes away at that moment would leave it open.
    with (folder / "upload").open("wb") as plain:
        file, size = wrap(plain), 0
        while block := await _block(part, head):
            size += sum(map(len, block))
            if size > limits.max_upload_mib * MIB:
                raise _too_large(limits)
            if size > room:
                raise StorageFull("There is no room left for uploads; try again later.", retry_after=60)
            if size > _SMALL:
                await file.writelines(block)
            else:
                plain.writelines(block)
            head = b""


async def _block(part: BodyPartReader, head: bytes) -> list[bytes]:
    """The chunks that are written at once, `head` before them; empty at the end."""
    chunks, size = [head] if head else [], len(head)
    while size < _BLOCK and (chunk := await part.read_chunk(_CHUNK)):
        chunks.append(chunk)
        size += len(chunk)
    return chunks


async def _discard(part: BodyPartReader, size: int, limits: Limits) -> None:
    """Read what is refused to its end, so that the client gets to see the answer instead of a closed connection.
    `size`: bytes of it that have been read. Raises TooLarge."""
    while chunk := await part.read_chunk(_CHUNK):
        size += len(chunk)
        if size > limits.max_upload_mib * MIB:
            raise _too_large(limits)


def _too_large(limits: Limits) -> TooLarge:
    return TooLarge(f"The upload is larger than {limits.max_upload_mib} MiB.", param="file")
