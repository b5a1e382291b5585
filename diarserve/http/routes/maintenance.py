"""Endpoints for maintenance: a backup while the server works, and a server that takes no more work."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

import diarserve
from diarserve.http.context import LIVE, SERVICE
from diarserve.http.guard import client
from diarserve.http.openapi.describe import Answer, describe
from diarserve.http.responses import json
from diarserve.tasks import backup_archive
from diarserve.tasks.views import Count

log = logging.getLogger(__name__)
routes = web.RouteTableDef()

_DRAIN = "/api/v1/parallel/drain"


class DrainState(Struct):
    draining: Annotated[bool, Meta(description="Whether new work is refused.")]
    requests: Annotated[Count, Meta(description="Recordings whose clients wait, and uploads.")]
    live_sessions: Count
    tasks: Annotated[Count, Meta(description="Durable tasks that are worked on.")]
    queued: Annotated[Count, Meta(description="Durable tasks that wait: for this server, or the next one.")]


_STATE = Answer("What is still under way.", DrainState)


@routes.post("/api/v1/parallel/backup")
@describe(
    "A backup of tasks, documents, voices and access keys, made while the server works",
    {200: Answer("It can be read by `diarserve restore`, and by tar.", other={"application/x-tar": bytes})},
    errors=[422, 507],
    needs="admin",
)
async def backup(request: web.Request) -> web.StreamResponse:
    async with request.app[SERVICE].backups.snapshot(diarserve.__version__) as files:
        size = await asyncio.to_thread(backup_archive.size, files)
        response = web.StreamResponse()
        response.content_type, response.content_length = "application/x-tar", size
        name = time.strftime("diarserve-%Y%m%dT%H%M%SZ.tar", time.gmtime())
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        await response.prepare(request)
        chunks = backup_archive.chunks(files)
        while chunk := await asyncio.to_thread(_next, chunks):
            await response.write(chunk)
        await response.write_eof()
    log.info("a backup of %d files, %d bytes, was made for %s", len(files), size, _who(request))
    return response


@routes.get(_DRAIN)
@describe("What is under way", {200: _STATE}, needs="admin")
async def show(request: web.Request) -> web.Response:
    return json(await _state(request))


@routes.post(_DRAIN)
@describe("Take no more work, and begin no queued task, until this is ended or the server is", {200: _STATE})
async def drain(request: web.Request) -> web.Response:
    """What is under way goes on to its end. `/readyz` answers 503; queued tasks stay queued."""
    request.app[SERVICE].drain(True)
    log.warning("no more work is taken: %s drains the server", _who(request))
    return json(await _state(request))


@routes.delete(_DRAIN)
@describe("Take work again", {200: _STATE})
async def resume(request: web.Request) -> web.Response:
    request.app[SERVICE].drain(False)
    log.warning("work is taken again: %s has ended the drain", _who(request))
    return json(await _state(request))


async def _state(request: web.Request) -> DrainState:
    service = request.app[SERVICE]
    return DrainState(
        service.draining,
        service.tasks.slots.taken + service.tasks.uploads.taken,
        len(request.app[LIVE]),
        service.backlog.running,
        (await service.store.counts())["queued"],
    )


def _next(chunks: Iterator[bytes]) -> bytes:
    """Empty at the end."""
    for chunk in chunks:
        if chunk:  # what fills a block that is full already is none
            return chunk
    return b""


def _who(request: web.Request) -> str:
    key = client(request).key
    return f"key {key.id}" if key else "a client without a key"
