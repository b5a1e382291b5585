"""Server-sent events: a task's progress and words as they are known."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from aiohttp import web
from msgspec import Struct

from diarserve.http import sse
from diarserve.http.context import SERVICE
from diarserve.http.openapi.describe import Answer, Events, describe
from diarserve.http.ownership import own_task
from diarserve.tasks import views
from diarserve.tasks.task import Task
from diarserve.tasks.views import Percent
from diarserve.transcript.sentences import Sentence, sentences

routes = web.RouteTableDef()


class Progress(Struct):
    progress: Percent
    stage: str
    stages: Mapping[str, Percent]


_EVENTS = Events({"progress": Progress, "segment": Sentence, "done": views.TaskStatus})


@routes.get("/api/v1/parallel/events/{task_id}")
@describe(
    "A task's progress, and its words as they are known",
    {200: Answer("In the end `done`, unless the server shuts down.", other={"text/event-stream": _EVENTS})},
    tag="tasks",
    errors=[404],
    needs="read",
)
async def events(request: web.Request) -> web.StreamResponse:
    """`progress` (percent, stages), `segment` (a sentence, with its provisional speaker once the diarizer is done), and
    in the end `done` with the task's status. A server that shuts down ends the stream without it."""
    service, row = request.app[SERVICE], await own_task(request)
    async with sse.stream(request) as stream:
        if not row.ended:
            task = await service.backlog.watched(row)
            async with aclosing(changes(task)) as news:
                async for change in news:
                    await stream.send(change, "progress" if isinstance(change, Progress) else "segment")
            row = await service.store.get(row.id) or row
        if row.ended:
            await stream.send(views.task_status(row), "done")
    return stream.response


async def changes(task: Task) -> AsyncGenerator[Progress | Sentence, None]:
    """Until the task has ended. A slow reader gets fewer `progress` events, and every `segment`."""
    shown = None
    shown_chunks = 0
    async with aclosing(task.watch()) as watching:
        async for _ in watching:
            progress = Progress(task.progress, task.stage, task.percents())
            if progress != shown:
                shown = progress
                yield progress
            while shown_chunks < len(task.partial_words):
                words = task.partial_words[shown_chunks]
                shown_chunks += 1
                for sentence in sentences(words, task.turns):
                    yield sentence
