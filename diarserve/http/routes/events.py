"""Server-sent events: a task's progress and words as they are known."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from aiohttp import web

from diarserve.core.errors import NotFound
from diarserve.http import sse
from diarserve.http.context import SERVICE
from diarserve.tasks import views
from diarserve.tasks.task import Task
from diarserve.transcript.sentences import sentences

routes = web.RouteTableDef()


@routes.get("/api/v1/parallel/events/{task_id}")
async def events(request: web.Request) -> web.StreamResponse:
    """`progress` (percent, stages), `segment` (a sentence, with its provisional speaker once the diarizer is done), and
    in the end `done` with the task's status. A server that shuts down ends the stream without it."""
    service, id = request.app[SERVICE], request.match_info["task_id"]
    row = await service.store.get(id)
    if row is None:
        raise NotFound(f"There is no task {id[:64]}.")
    async with sse.stream(request) as stream:
        if not row.ended:
            task = await service.backlog.watched(row)
            async with aclosing(changes(task)) as news:
                async for name, data in news:
                    await stream.send(data, name)
            row = await service.store.get(id) or row
        if row.ended:
            await stream.send(views.task_status(row), "done")
    return stream.response


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
            while heard < len(task.partial_words):
                words = task.partial_words[heard]
                heard += 1
                for sentence in sentences(words, task.turns):
                    yield "segment", msgspec.to_builtins(sentence)
