"""OpenAI's audio endpoints, for clients that speak to those: same fields, same shapes, same errors.

https://platform.openai.com/docs/api-reference/audio
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

from aiohttp import web

from diarserve.core.errors import ServiceError
from diarserve.core.options import parse
from diarserve.http import sse, uploads
from diarserve.http.context import SERVICE
from diarserve.http.openai import shapes
from diarserve.http.openai.options import OpenAIOptions
from diarserve.http.responses import json, openai_error
from diarserve.http.routes.events import changes
from diarserve.http.routes.transcribe import folders
from diarserve.service.service import Service
from diarserve.tasks.task import Task
from diarserve.transcript.document import Document
from diarserve.transcript.formats import render

routes = web.RouteTableDef()


@routes.post("/v1/audio/transcriptions")
async def transcriptions(request: web.Request) -> web.StreamResponse:
    return await _answer(request, translate=False)


@routes.post("/v1/audio/translations")
async def translations(request: web.Request) -> web.StreamResponse:
    return await _answer(request, translate=True)


@routes.get("/v1/models")
async def models(request: web.Request) -> web.Response:
    info = request.app[SERVICE].lanes.whisper.info
    names = list(info.get("models", [info["model"]])) if info else []
    shown = [{"id": name, "object": "model", "created": 0, "owned_by": "diarserve"} for name in names]
    return json({"object": "list", "data": shown})


async def _answer(request: web.Request, *, translate: bool) -> web.StreamResponse:
    service = request.app[SERVICE]
    service.require_ready()
    with service.tasks.request_slot(), folders(service) as new_folder:
        form = await uploads.receive(request, new_folder, service.settings.limits)
        options, upload = parse(OpenAIOptions, form.fields), form.upload
        service.check(options.ours)
        task = Task(upload.folder, upload.filename, options.ours, translate=translate)
        if options.stream:
            return await _stream(request, service, task, options)
        document = await service.process(task)
    warnings = (*document.warnings, *options.unhonoured())
    return _shaped(document, warnings, options, translate=translate)


def _shaped(document: Document, warnings: Sequence[str], options: OpenAIOptions, *, translate: bool) -> web.Response:
    match options.response_format:
        case "text":
            return web.Response(text=document.text + "\n")
        case "srt" | "vtt":
            body, kind = render(document, options.response_format)
            return web.Response(body=body, headers={"Content-Type": kind})
        case "verbose_json":
            kind_of_task: shapes.Task = "translate" if translate else "transcribe"
            shaped = shapes.verbose_json(document, options.granularities, kind_of_task)
        case "diarized_json":
            shaped = shapes.diarized_json(document)
        case _:
            shaped = shapes.json(document)
    # OpenAI has no such field; its clients pass over it.
    return json(shaped | {"warnings": warnings} if warnings else shaped)


async def _stream(request: web.Request, service: Service, task: Task, options: OpenAIOptions) -> web.StreamResponse:
    running = asyncio.create_task(service.process(task))
    running.add_done_callback(lambda _: task.become("completed"))
    try:
        diarized = options.response_format == "diarized_json"
        async with sse.stream(request) as stream, aclosing(_events(task, running, diarized=diarized)) as events:
            async for event in events:
                await stream.send(event)
        return stream.response
    finally:
        running.cancel()  # nobody is listening any more, unless it is done
        with suppress(asyncio.CancelledError, Exception):
            await running


async def _events(
    task: Task, running: asyncio.Task[Document], *, diarized: bool
) -> AsyncGenerator[dict[str, Any], None]:
    """Text as it is heard; who said it when all is known."""
    space = ""
    async with aclosing(changes(task)) as news:
        async for name, data in news:
            if name == "segment":
                yield {"type": "transcript.text.delta", "delta": space + data["text"]}
                space = " "
    try:
        document = await running
    except ServiceError as error:
        yield openai_error(error)
        return
    if diarized:
        labels = shapes.speaker_labels(document, {})
        for number, segment in enumerate(document.segments, 1):
            yield shapes.diarized_segment(segment, labels[segment.speaker], number)
    # Without usage: OpenAI's event counts tokens, which are not kept.
    yield {"type": "transcript.text.done", "text": document.text}
