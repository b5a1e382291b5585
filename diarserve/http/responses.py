"""What handlers answer: JSON, a task's result, a document in the format that was asked for."""

from __future__ import annotations

import asyncio

import msgspec
import orjson
from aiohttp import web

from diarserve.core.errors import NotFound, ServiceError
from diarserve.core.types import Format
from diarserve.service.service import Service
from diarserve.tasks import views
from diarserve.transcript.document import Document, decode
from diarserve.transcript.formats import render

_LARGE = 2000  # words above which rendering leaves the event loop ...
_LARGE_BODY = 256 * 1024  # ... and bytes of JSON above which decoding does


def json(data: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(data, default=msgspec.to_builtins),
        status=status,
        headers=headers,
        content_type="application/json",
    )


async def finished(service: Service, id: str, format: Format) -> web.Response:
    """The result of a task that has ended. Raises ServiceError for how it ended otherwise."""
    row = await service.store.get(id)
    if row is None:
        raise NotFound(f"There is no task {id}.")
    if row.status == "completed":
        document = await service.store.result(id)
        if document is not None:
            if format == "json":
                return web.Response(body=document, content_type="application/json")
            return await rendered(service, await _decoded(document), format)
    if row.status == "failed" and row.error:
        raise views.problem(row.error)
    if row.status in ("expired", "completed"):
        gone = ServiceError(f"The result of task {id} was kept for its time and is gone.", code="expired")
        gone.status = 410
        raise gone
    raise views.Unfinished(row)


async def _decoded(body: bytes) -> Document:
    return await asyncio.to_thread(decode, body) if len(body) > _LARGE_BODY else decode(body)


async def rendered(service: Service, document: Document, format: Format) -> web.Response:
    style = service.settings.subtitles
    large = document.words > _LARGE
    body, kind = await asyncio.to_thread(render, document, format, style) if large else render(document, format, style)
    return web.Response(body=body, headers={"Content-Type": kind})
