"""A request's multipart body: options validated, the file streamed to disk, never wholly in memory."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import aiofiles
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from diarserve.errors import InvalidRequest, StorageFull, TooLarge, UnsupportedMedia, UploadTimeout
from diarserve.settings import MIB, Limits
from workers.containers import HEAD, sniff

_FIELD_LIMIT = 64 * 1024  # bytes of one text field
_CHUNK = 256 * 1024


def _blank_is_absent(value: Any) -> Any:
    return None if value == "" else value


Count = Annotated[int | None, BeforeValidator(_blank_is_absent), Field(ge=1, le=100)]


class Options(BaseModel):
    """What a client may ask of a transcription."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    language: Annotated[str | None, BeforeValidator(_blank_is_absent), Field(max_length=32)] = None
    whisper_model: Annotated[str | None, BeforeValidator(_blank_is_absent), Field(max_length=200)] = None
    source_separation: bool = False
    enhanced_alignment: bool = False
    num_speakers: Count = None
    min_speakers: Count = None
    max_speakers: Count = None
    response_format: Literal["json"] = "json"
    priority: Literal["high", "normal", "low"] = "high"

    @model_validator(mode="after")
    def _speakers_agree(self) -> Options:
        if (self.min_speakers or 1) > (self.max_speakers or 100):
            raise ValueError("min_speakers must not be above max_speakers")
        return self


class Upload:
    """One received file: where it lies, and what the client called it (for showing only)."""

    def __init__(self, path: Path, filename: str) -> None:
        self.path = path
        self.filename = filename


async def read(request: web.Request, folder: Path, limits: Limits) -> tuple[Upload, Options]:
    """Receive the form. The file goes to `folder`, which the caller removes. Raises ServiceError."""
    if (request.content_length or 0) > limits.max_upload_mib * MIB:
        raise _too_large(limits)
    if not request.content_type.startswith("multipart/"):
        raise InvalidRequest("Send multipart/form-data with the recording in the field 'file'.", param="file")
    try:
        async with asyncio.timeout(limits.upload_timeout):
            return await _parts(request, folder, limits)
    except TimeoutError as error:
        raise UploadTimeout(f"The upload took longer than {limits.upload_timeout:.0f} s.") from error
    except (
        ValueError,
        AssertionError,
        HttpProcessingError,
    ) as error:  # aiohttp's words for a body that is no multipart form
        raise InvalidRequest("The multipart body is malformed or cut short.") from error


async def _parts(request: web.Request, folder: Path, limits: Limits) -> tuple[Upload, Options]:
    fields: dict[str, str] = {}
    upload: Upload | None = None
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or part.name is None:
            raise InvalidRequest("Nested multipart bodies are not understood.")
        if part.name != "file":
            fields[part.name] = await _text(part)
        elif upload is not None:
            raise InvalidRequest("Send one 'file'; for several use /api/v1/parallel/batch.", param="file")
        else:
            upload = Upload(folder / "upload", Path(part.filename or "audio").name[:255])
            await _save(part, upload.path, limits)
    options = parse(fields)
    if upload is None:
        raise InvalidRequest("The field 'file' with the recording is missing.", param="file")
    return upload, options


def parse(fields: dict[str, str]) -> Options:
    """Raises InvalidRequest naming the first field that is wrong."""
    try:
        return Options.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(map(str, first["loc"])) or None
        known = ", ".join(Options.model_fields)
        if first["type"] == "extra_forbidden":
            raise InvalidRequest(f"Unknown field '{param}'. Known fields: file, {known}.", param=param) from error
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"{param}: {message}." if param else f"{message}.", param=param) from error


async def _text(part: BodyPartReader) -> str:
    value = bytearray()
    while chunk := await part.read_chunk():
        value += chunk
        if len(value) > _FIELD_LIMIT:
            raise TooLarge(f"The field '{part.name}' is longer than 64 KiB.", param=part.name)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The field '{part.name}' is not UTF-8 text.", param=part.name) from error


async def _save(part: BodyPartReader, path: Path, limits: Limits) -> None:
    """Stream the part to `path`. What is no recording is read to its end and thrown away, so that the client
    gets to see the answer instead of a closed connection."""
    head = bytearray()
    while len(head) < HEAD and (chunk := await part.read_chunk(_CHUNK)):
        head += chunk
    kind, size = sniff(bytes(head[:HEAD])), len(head)
    room = shutil.disk_usage(path.parent).free - limits.min_free_mib * MIB
    chunk = bytes(head)
    async with aiofiles.open(path, "wb") as file:
        while chunk:
            if size > limits.max_upload_mib * MIB:
                raise _too_large(limits)
            if kind is not None:
                if size > room:
                    raise StorageFull("There is no room left for uploads; try again later.", retry_after=60)
                await file.write(chunk)
            chunk = await part.read_chunk(_CHUNK)
            size += len(chunk)
    if size == 0:
        raise InvalidRequest("The file is empty.", code="empty_file", param="file")
    if kind is None:
        raise UnsupportedMedia(
            "This is not a recording that can be read. Send WAV, FLAC, MP3, M4A/AAC, OGG, Opus, WebM, MP4 or MKV.",
            param="file",
        )


def _too_large(limits: Limits) -> TooLarge:
    return TooLarge(f"The upload is larger than {limits.max_upload_mib} MiB.", param="file")


def sweep(folder: Path) -> None:
    """Remove what an earlier server left in the spool."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
