"""Server-sent events: a task's progress and words as they are known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
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
    `done` with the task's status."""
    service, id = request.app[SERVICE], request.match_info["task_id"]
    row = await service.store.get(id)
    if row is None:
        raise NotFound(f"There is no task {id[:64]}.")
    response = await begin(request)
    if not row.ended:
        async for name, data in changes(service.backlog.task(row)):
            await send(response, data, name)
        row = await service.store.get(id) or row
    await send(response, views.status_of(row)["status"], "done")
    return response


async def changes(task: Task) -> AsyncIterator[tuple[str, dict[str, Any]]]:
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


async def send(response: web.StreamResponse, data: Any, event: str | None = None) -> None:
    head = f"event: {event}\n".encode() if event else b""
    await response.write(head + b"data: " + orjson.dumps(data) + b"\n\n")
