"""Server-sent events: a task's progress and words as they are known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import orjson
from aiohttp import web

from diarserve import views
from diarserve.errors import NotFound
from diarserve.keys import SERVICE
from diarserve.tasks import Task

routes = web.RouteTableDef()


@routes.get("/api/v1/parallel/events/{task_id}")
async def events(request: web.Request) -> web.StreamResponse:
    """`progress` (percent, stages), `segment` (words of one speech chunk, without speakers yet), and in the end
    `done` with the task's status. A server that shuts down ends the stream without it."""
    service, id = request.app[SERVICE], request.match_info["task_id"]
    row = await service.store.get(id)
    if row is None:
        raise NotFound(f"There is no task {id[:64]}.")
    response = await begin(request)
    if not row.ended:
        task = await service.backlog.watched(row)
        async with beating(response), aclosing(changes(task)) as news:
            async for name, data in news:
                await send(response, data, name)
        row = await service.store.get(id) or row
    if row.ended:
        await send(response, views.status_of(row)["status"], "done")
    return response


async def changes(task: Task) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
    """Until the task has ended. A slow reader gets fewer `progress` events, and every `segment`."""
    shown: dict[str, Any] = {}
    heard = 0
    async with aclosing(task.watch()) as watching:
        async for _ in watching:
            progress = {"progress": task.progress, "stage": task.stage, "stages": task.percents()}
            if progress != shown:
                shown = progress
                yield "progress", progress
            if len(task.heard) < heard:
                heard = 0  # the task began again
            while heard < len(task.heard):
                words = task.heard[heard]
                heard += 1
                text = "".join(word.word for word in words).strip()
                yield "segment", {"start": words[0].start, "end": words[-1].end, "text": text}


async def begin(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    return response


@asynccontextmanager
async def beating(response: web.StreamResponse, every: float = 15.0) -> AsyncIterator[None]:
    """Send comments meanwhile, so that nothing on the way takes a quiet stream for a dead one."""

    async def beat() -> None:
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(every)
                await response.write(b":\n\n")

    heart = asyncio.create_task(beat())
    try:
        yield
    finally:
        heart.cancel()


async def send(response: web.StreamResponse, data: Any, event: str | None = None) -> None:
    head = f"event: {event}\n".encode() if event else b""
    await response.write(head + b"data: " + orjson.dumps(data) + b"\n\n")
