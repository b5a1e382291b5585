"""A request's multipart body: fields in memory, files streamed to disk, never wholly in memory.

with new_folders(service) as new_folder:
    form = await receive(request, new_folder, service.settings.limits)
    options, upload = parse(Options, form.fields), form.upload
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from aiohttp import BodyPartReader, content_disposition_filename, hdrs, parse_content_disposition, web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import MultiMapping

from diarserve.core.errors import (
    InvalidRequest,
    ServiceError,
    TooLarge,
)
from diarserve.core.settings import MIB, Limits
from diarserve.http import references
from diarserve.http.fetched import receive_from_url
from diarserve.http.guard import require_still_known
from diarserve.http.recordings import (
    READ_SIZE,
    Body,
    Chunks,
    discard,
    receive_recording,
    receiving,
    too_large,
    why_unreadable,
)
from diarserve.service.service import Service
from diarserve.tasks.disk_space import DiskSpace
from diarserve.tasks.task import new_id
from workers.media.containers import HEAD
from workers.media.private_files import create_private

_MAX_FIELD = 64 * 1024  # bytes of one text field
_MAX_FIELDS = 100
_MAX_TEXT = 256 * 1024  # bytes of all text fields: they are held in memory
_FRAMING = MIB  # bytes of a body that are neither files nor fields


NewFolder = Callable[[], Path]


@contextmanager
def new_folders(service: Service) -> Iterator[NewFolder]:
    """A function that makes a folder for an upload. The folders are removed when the block ends, except those that were
    moved (of accepted tasks)."""
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
    folder: Path  # holds the file, named "upload"
    filename: str  # the client's name for it, for showing only: never a path to open
    error: ServiceError | None  # why it cannot be a recording


@dataclass(slots=True)
class Form:
    name: str = "file"  # of the field with the recording
    uploads: list[Upload] = field(default_factory=list)
    fields: dict[str, list[str]] = field(default_factory=dict)
    references: list[Path] = field(default_factory=list)  # of known speakers, in the order in which they were sent

    @property
    def upload(self) -> Upload:
        """The one file. Raises ServiceError."""
        if not self.uploads:
            raise InvalidRequest(f"The field '{self.name}' with the recording is missing.", param=self.name)
        if len(self.uploads) > 1:
            raise InvalidRequest(f"Send one '{self.name}'; for several use /api/v1/parallel/batch.", param=self.name)
        if self.uploads[0].error:
            raise self.uploads[0].error
        return self.uploads[0]

    @property
    def recordings(self) -> list[Upload]:
        """The files of a batch, some of which may be no recordings. Raises InvalidRequest where there is none."""
        if not self.uploads:
            raise InvalidRequest("The field 'files' with the recordings is missing.", param="files")
        return self.uploads


async def receive(
    request: web.Request,
    new_folder: NewFolder,
    limits: Limits,
    *,
    name: str = "file",
    raw: bool = False,
    read: Callable[[Chunks], Chunks] = lambda part: part,
) -> Form:
    """Take in the whole body, and the fields that stand in the query. Every file goes into a new folder, which the
    caller removes. `name`: of the field with the recording; `read`: how that is read; `raw`: whether the body
    may be the recording itself, or JSON with its URL. Raises ServiceError: Busy where
    as many uploads are under way as may be, Unauthorized where the key was revoked meanwhile."""
    form = await _receive(request, new_folder, limits, name=name, raw=raw, read=read)
    require_still_known(request)
    return form


async def _receive(
    request: web.Request,
    new_folder: NewFolder,
    limits: Limits,
    *,
    name: str,
    raw: bool,
    read: Callable[[Chunks], Chunks],
) -> Form:
    form = Form(name)
    if not request.content_type.startswith("multipart/"):
        if raw and request.content_type == "application/json":
            folder = new_folder()
            name, wrong = await receive_from_url(request, folder, limits)
            form.uploads.append(Upload(folder, _plain(name), wrong))
            _merge_query(request.query, form)
            return form
        if not (raw and request.can_read_body and _is_recording(request.content_type)):
            raise InvalidRequest(f"Send multipart/form-data with the recording in the field '{name}'.", param=name)
        form.uploads.append(await _receive_body(request, new_folder(), limits))
        _merge_query(request.query, form)
        return form
    try:
        async with receiving(request, limits) as disk:
            async for part in await request.multipart():
                await _read_part(part, form, new_folder, limits, disk, read)
                if request.content.total_bytes > limits.max_upload_mib * MIB + _FRAMING:
                    raise too_large(limits)
    except (ValueError, AssertionError, HttpProcessingError, web.RequestPayloadError) as error:
        # what aiohttp raises for a body that is not a well-formed multipart
        raise InvalidRequest("The multipart body is malformed or cut short.") from error
    _merge_query(request.query, form)
    references.attach(form.references, form.fields, [upload.folder for upload in form.uploads if not upload.error])
    return form


def _is_recording(content_type: str) -> bool:
    return content_type == "application/octet-stream" or content_type.startswith(("audio/", "video/"))


async def _receive_body(request: web.Request, folder: Path, limits: Limits) -> Upload:
    """The body is the recording; `Content-Disposition: attachment; filename="call.wav"` may say what it is called."""
    try:
        async with receiving(request, limits) as disk:
            wrong = await receive_recording(Body(request.content), folder, limits, disk)
    except web.RequestPayloadError as error:
        raise InvalidRequest("The body is malformed or cut short.") from error
    _, filename = _field_and_file_name(request.headers.get(hdrs.CONTENT_DISPOSITION))
    return Upload(folder, _plain(filename), wrong)


def _plain(filename: str | None) -> str:
    """Without the folders before it."""
    return (filename or "audio").replace("\\", "/").rpartition("/")[2][:255]


async def _read_part(
    part: object,
    form: Form,
    new_folder: NewFolder,
    limits: Limits,
    disk: DiskSpace,
    read: Callable[[Chunks], Chunks],
) -> None:
    if not isinstance(part, BodyPartReader):
        raise InvalidRequest("Nested multipart bodies are not understood.")
    field, filename = _field_and_file_name(part.headers.get(hdrs.CONTENT_DISPOSITION))
    if field is None:
        raise InvalidRequest("Nested multipart bodies are not understood.")
    if field.removesuffix("[]") == references.FIELD:
        await _receive_reference(part, form, new_folder, limits, disk, is_file=filename is not None)
    elif field not in (("file", "files") if form.name == "file" else (form.name,)):
        if filename:
            await discard(part, 0, limits)
            several = " ('files' in a batch)" if form.name == "file" else ""
            message = f"The recording goes into the field '{form.name}'{several}; it was sent as {field!r}."
            raise InvalidRequest(message, param=field)
        values = [value for given in form.fields.values() for value in given]
        if len(values) >= _MAX_FIELDS or sum(map(len, values)) > _MAX_TEXT:
            raise InvalidRequest(f"More than {_MAX_FIELDS} fields or {_MAX_TEXT // 1024} KiB of text were sent.")
        form.fields.setdefault(field, []).append(await _read_text(part, field))
    elif len(form.uploads) >= limits.max_batch_files:
        raise TooLarge(f"More than {limits.max_batch_files} files were sent.", param="files")
    else:
        folder = new_folder()
        form.uploads.append(Upload(folder, _plain(filename), await receive_recording(read(part), folder, limits, disk)))


async def _receive_reference(
    part: BodyPartReader, form: Form, new_folder: NewFolder, limits: Limits, disk: DiskSpace, *, is_file: bool
) -> None:
    """A reference of a known speaker, as a file or as a data URL. All lie in one folder, until they are linked into
    those of the recordings."""
    number = len(form.references)
    folder = form.references[0].parent if form.references else new_folder()
    target = folder / references.check_number(number)
    head = b""
    try:
        size = 0
        with create_private(target) as file:
            decode = None if is_file else references.DataUrl()
            while chunk := await part.read_chunk(READ_SIZE):
                data = chunk if decode is None else decode.feed(chunk)
                head, size = (head + data)[:HEAD] if len(head) < HEAD else head, size + len(data)
                references.check_size(size)
                with disk.reserved(len(data)):
                    file.write(data)
                    file.flush()
            if decode:
                decode.close()
    except InvalidRequest:
        await discard(part, 0, limits)
        raise
    if not head and not is_file:  # left blank, as a form does
        target.unlink()
        return
    if error := why_unreadable(head):
        raise type(error)(f"Reference {number + 1}: {error.message}", code=error.code, param=references.FIELD)
    form.references.append(target)


def _merge_query(query: MultiMapping[str], form: Form) -> None:
    """Raises InvalidRequest where the form says otherwise."""
    for name in set(query):
        given = query.getall(name)
        if form.fields.setdefault(name, given) != given:
            raise InvalidRequest(f"The field '{name}' has one value in the query and another in the form.", param=name)


@lru_cache(256)  # parsing takes as long as reading a short part, and most requests have the same headers
def _field_and_file_name(disposition: str | None) -> tuple[str | None, str | None]:
    _, params = parse_content_disposition(disposition)
    names = content_disposition_filename(params, "name"), content_disposition_filename(params)
    # Bytes that are no UTF-8 come as lone surrogates, which no answer could hold.
    field, filename = (name and name.encode(errors="replace").decode() for name in names)
    return field, filename


async def _read_text(part: BodyPartReader, field: str) -> str:
    value = bytearray()
    while chunk := await part.read_chunk():
        value += chunk
        if len(value) > _MAX_FIELD:
            raise TooLarge(f"The field '{field}' is longer than 64 KiB.", param=field)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The field '{field}' is not UTF-8 text.", param=field) from error
