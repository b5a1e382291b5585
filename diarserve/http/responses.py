"""What handlers answer: JSON, a task's result, a document in the format that was asked for.

A handler returns `json(answer)` for what is small. What grows with the recording is built by a pure function and
answered by `await large_response(words, function, *arguments)`, so that hours of audio do not hold up the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec

import msgspec
from aiohttp import web

from diarserve.core.errors import NotFound, ServiceError
from diarserve.core.types import Format
from diarserve.service.service import Service
from diarserve.tasks import views
from diarserve.transcript.document import Document, decode
from diarserve.transcript.formats import render

_LARGE = 2000  # words above which answers are made in a thread: 40,000 (four hours) take 20 to 300 ms ...
_LARGE_BODY = 256 * 1024  # ... and bytes of JSON above which decoding does
_PIECE = 500  # items of a list that are encoded in one call

P = ParamSpec("P")


def json(data: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """`data`: builtins or msgspec.Structs."""
    return web.Response(body=_encoder.encode(data), status=status, headers=headers, content_type="application/json")


async def large_response(
    words: int, build: Callable[P, tuple[bytes, str]], *args: P.args, **kwargs: P.kwargs
) -> web.Response:
    """What `build` returns: a body and its content type. It runs in a thread where there are many words."""
    body, kind = await asyncio.to_thread(build, *args, **kwargs) if words > _LARGE else build(*args, **kwargs)
    return web.Response(body=body, headers={"Content-Type": kind})


def encode_in_pieces(answer: msgspec.Struct) -> bytes:
    """As JSON, its lists in pieces: a single call holds the interpreter's lock as long as it takes, in whichever thread
    it runs, and the event loop with it."""
    fields = {name: getattr(answer, name) for name in answer.__struct_fields__}
    return _encoder.encode({name: _pieces(value) for name, value in fields.items() if value is not msgspec.UNSET})


def _pieces(value: object) -> object:
    if not isinstance(value, list | tuple):
        return value
    pieces = (_encoder.encode(value[start : start + _PIECE])[1:-1] for start in range(0, len(value), _PIECE))
    return msgspec.Raw(b"[" + b",".join(pieces) + b"]")


async def task_result(service: Service, id: str, format: Format) -> web.Response:
    """The result of a task that has ended. Raises ServiceError for how it ended otherwise."""
    row = await service.store.get(id)
    if row is None:
        raise NotFound(f"There is no task {id}.")
    if row.status == "completed":
        document = await service.store.result(id)
        if document is not None:
            if format == "json":
                return web.Response(body=document, content_type="application/json")
            return await transcript_response(service, await _decoded(document), format)
    if row.status == "failed" and row.error:
        raise views.problem(row.error)
    if row.status in ("expired", "completed"):
        gone = ServiceError(f"The result of task {id} was kept for its time and is gone.", code="expired")
        gone.status = 410
        raise gone
    raise views.Unfinished(row)


async def _decoded(body: bytes) -> Document:
    return await asyncio.to_thread(decode, body) if len(body) > _LARGE_BODY else decode(body)


async def transcript_response(service: Service, document: Document, format: Format) -> web.Response:
    return await large_response(document.words, render, document, format, service.settings.subtitles)


_encoder = msgspec.json.Encoder()
