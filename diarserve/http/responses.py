"""What handlers answer: JSON, a task's result, a document in the format that was asked for.

A handler returns `json(answer)` for what is small. What grows with the recording is built by a pure function and
answered by `await large_response(words, function, *arguments)`, so that hours of audio do not hold up the event loop.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath
from typing import ParamSpec
from urllib.parse import quote

import msgspec
from aiohttp import web

from diarserve.core.errors import NotFound, ServiceError
from diarserve.core.offload import offload
from diarserve.core.types import Format
from diarserve.observe import tracing
from diarserve.service.service import Service
from diarserve.tasks import views
from diarserve.tasks.revisions import document_at
from diarserve.tasks.store.protocol import TaskRow
from diarserve.transcript.document import Document, decode
from diarserve.transcript.formats import FORMATS, render

_LARGE = 2000  # words above which answers are made in a thread: 40,000 (four hours) take 4 to 160 ms ...
_LARGE_BODY = 256 * 1024  # ... and bytes of JSON above which decoding does

P = ParamSpec("P")


def json(data: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """`data`: builtins or msgspec.Structs."""
    return web.Response(body=_encoder.encode(data), status=status, headers=headers, content_type="application/json")


async def large_response(
    words: int, build: Callable[P, tuple[bytes, str]], *args: P.args, **kwargs: P.kwargs
) -> web.Response:
    """What `build` returns: a body and its content type. It runs in a thread where there are many words."""
    with tracing.span("render"):
        body, kind = await offload(words > _LARGE, build, *args, **kwargs)
    return web.Response(body=body, headers={"Content-Type": kind})


async def task_result(service: Service, row: TaskRow, format: Format, revision: int | None = None) -> web.Response:
    """The result of a task that has ended, as of its newest revision or the one that is asked for. Raises ServiceError
    for how it ended otherwise."""
    body = await completed(service, row.id)
    document = await document_at(service.store, row.id, body, revision)
    if isinstance(document, bytes):
        if format == "json":
            return _named(web.Response(body=document, content_type="application/json"), row.filename, format)
        document = await offload(len(document) > _LARGE_BODY, decode, document)
    return await transcript_response(service, document, format)


async def completed(service: Service, id: str) -> bytes:
    """The document of a completed task, as JSON. Raises ServiceError for how it ended otherwise."""
    row = await service.store.get(id)
    if row is None:
        raise NotFound(f"There is no task {id}.")
    if row.status == "completed":
        document = await service.store.result(id)
        if document is not None:
            return document
    if row.status == "failed" and row.error:
        raise views.problem(row.error)
    if row.status in ("expired", "completed"):
        gone = ServiceError(f"The result of task {id} was kept for its time and is gone.", code="expired")
        gone.status = 410
        raise gone
    raise views.Unfinished(row)


async def transcript_response(service: Service, document: Document, format: Format) -> web.Response:
    response = await large_response(document.words, render, document, format, service.settings.subtitles)
    return _named(response, document.filename, format)


def _named(response: web.Response, filename: str, format: Format) -> web.Response:
    """With the name under which it may be saved: that of the recording, with the format's suffix (RFC 6266)."""
    name = (PurePath(filename).stem or "transcript") + FORMATS[format].suffix
    plain = re.sub("[^A-Za-z0-9._ -]", "_", name)
    response.headers["Content-Disposition"] = f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    return response


_encoder = msgspec.json.Encoder()
