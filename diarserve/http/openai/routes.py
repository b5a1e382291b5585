"""OpenAI's audio endpoints, for clients that speak to those: same fields, same shapes, same errors.

https://platform.openai.com/docs/api-reference/audio
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Literal

from aiohttp import web
from msgspec import UNSET, Struct

from diarserve.core.encoding import encode_in_pieces
from diarserve.core.errors import NotFound, NotReady, ServiceError
from diarserve.core.settings import Subtitles
from diarserve.http import sse, uploads
from diarserve.http.audio import audio_reserved
from diarserve.http.context import SERVICE
from diarserve.http.guard import client
from diarserve.http.openai import errors, shapes
from diarserve.http.openai.options import OpenAIOptions, our_model, read
from diarserve.http.openapi.describe import RECEIVING, WORKING, Answer, Events, Form, describe
from diarserve.http.responses import json, large_response
from diarserve.http.routes.events import changes
from diarserve.service.service import Service
from diarserve.tasks.task import Task
from diarserve.transcript.document import Document
from diarserve.transcript.formats import render
from diarserve.transcript.sentences import Sentence

routes = web.RouteTableDef()

Event = shapes.TextDelta | shapes.DiarizedSegment | shapes.TextDone | errors.OpenAIErrorAnswer

_describe = partial(describe, tag="OpenAI", error=errors.OpenAIErrorAnswer)
_EVENTS = Events({None: (shapes.TextDelta, shapes.DiarizedSegment, shapes.TextDone, errors.OpenAIErrorAnswer)})
_TRANSCRIPT = Answer(
    "In the shape that was asked for; with `stream`, as OpenAI's events.",
    (shapes.Transcription, shapes.TranscriptionVerbose, shapes.TranscriptionDiarized),
    other={"text/event-stream": _EVENTS, "text/plain": str, "application/x-subrip": str, "text/vtt": str},
)
_ERRORS = (*RECEIVING, *WORKING, 503)
_FORM = Form(OpenAIOptions, open=True)


@routes.post("/v1/audio/transcriptions")
@_describe("Transcribe, asked as OpenAI is", {200: _TRANSCRIPT}, errors=_ERRORS, form=_FORM, needs="submit")
async def transcriptions(request: web.Request) -> web.StreamResponse:
    return await _answer(request, translate=False)


@routes.post("/v1/audio/translations")
@_describe(
    "Translate into English, where the model can", {200: _TRANSCRIPT}, errors=_ERRORS, form=_FORM, needs="submit"
)
async def translations(request: web.Request) -> web.StreamResponse:
    return await _answer(request, translate=True)


class OpenAIModel(Struct):
    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["diarserve"]


class OpenAIModels(Struct):
    object: Literal["list"]
    data: list[OpenAIModel]


@routes.get("/v1/models")
@_describe("The models", {200: Answer("Those that are loaded.", OpenAIModels)}, needs="read")
async def models(request: web.Request) -> web.Response:
    return json(OpenAIModels("list", [_model(name) for name in _names(request.app[SERVICE])]))


@routes.get("/v1/models/{model:.+}")
@_describe(
    "A model, by any name that a transcription takes",
    {200: Answer("It is there.", OpenAIModel)},
    errors=[404, 503],
    needs="read",
)
async def model(request: web.Request) -> web.Response:
    """Whatever name a transcription takes is found, OpenAI's own too."""
    service, asked = request.app[SERVICE], request.match_info["model"][:200]
    names = _names(service)
    if not names:
        raise NotReady("The models are not loaded yet; see /readyz.", retry_after=5)
    accepted = _accepted(service)
    if our_model(asked, accepted) not in (None, *names, *accepted):
        message = f"The model {asked!r} does not exist; there is: {', '.join(names)}."
        raise NotFound(message, code="model_not_found", param="model")
    return json(_model(asked))


def _model(name: str) -> OpenAIModel:
    return OpenAIModel(name, "model", 0, "diarserve")


def _names(service: Service) -> list[str]:
    """Of the configured models; none before they are loaded."""
    info = service.lanes.whisper.info
    return list(info.get("models", [info["model"]])) if info else []


def _accepted(service: Service) -> list[str]:
    """Every name that the recogniser takes for one of its models."""
    return list(service.lanes.whisper.info.get("accepts", ()))


async def _answer(request: web.Request, *, translate: bool) -> web.StreamResponse:
    service = request.app[SERVICE]
    service.require_ready()
    with service.tasks.request_slot() as slot, uploads.new_folders(service) as new_folder:
        form = await uploads.receive(request, new_folder, service.settings.limits)
        slot.grow(1)
        (options, ignored), upload = read(form.fields), form.upload
        ours = options.ours(_accepted(service))
        service.check(ours, client(request).owner)
        task = Task(upload.folder, upload.filename, ours, translate=translate, owner=client(request).owner)
        with audio_reserved(request, form.uploads):
            if options.stream:
                return await _stream(request, service, task, options, ignored)
            document = await service.process(task)
    warnings, style = _warnings(document, ignored), service.settings.subtitles
    return await large_response(document.words, _shaped, document, options, warnings, style, translate=translate)


def _shaped(
    document: Document, options: OpenAIOptions, warnings: Sequence[str], style: Subtitles, *, translate: bool
) -> tuple[bytes, str]:
    """The body and its content type."""
    shaped: shapes.Transcription | shapes.TranscriptionVerbose | shapes.TranscriptionDiarized
    match options.response_format:
        case "text":
            return f"{document.text}\n".encode(), "text/plain; charset=utf-8"
        case "srt" | "vtt":
            return render(document, options.response_format, style)
        case "verbose_json":
            kind_of_task: shapes.Task = "translate" if translate else "transcribe"
            shaped = shapes.verbose_json(
                document, options.timestamp_granularities, kind_of_task, speakers=options.diarization
            )
        case "diarized_json":
            shaped = shapes.diarized_json(document)
        case _:
            shaped = shapes.json(document)
    shaped.warnings = warnings or UNSET
    return encode_in_pieces(shaped), "application/json"


async def _stream(
    request: web.Request, service: Service, task: Task, options: OpenAIOptions, ignored: Sequence[str]
) -> web.StreamResponse:
    task.interim = True  # not where a durable task is watched: its text must not depend on that
    running = asyncio.create_task(service.process(task))
    running.add_done_callback(lambda _: task.become("completed"))
    try:
        diarized = options.response_format == "diarized_json"
        events = _events(task, running, ignored, diarized=diarized)
        async with sse.stream(request) as stream, aclosing(events) as told:
            async for event in told:
                await stream.send(event)
        return stream.response
    finally:
        running.cancel()  # nobody is listening any more, unless it is done
        with suppress(asyncio.CancelledError, Exception):
            await running


async def _events(
    task: Task, running: asyncio.Task[Document], ignored: Sequence[str], *, diarized: bool
) -> AsyncGenerator[Event, None]:
    """Text as it is heard; who said it when all is known."""
    space = ""
    async with aclosing(changes(task)) as news:
        async for change in news:
            if isinstance(change, Sentence):
                yield shapes.TextDelta(delta=space + change.text)
                space = " "
    try:
        document = await running
    except ServiceError as error:
        yield errors.body(error)
        return
    if diarized:
        labels = shapes.speaker_labels(document)
        for number, segment in enumerate(document.segments, 1):
            yield shapes.diarized_segment(segment, labels[segment.speaker], number)
    yield shapes.TextDone(text=document.text, warnings=_warnings(document, ignored) or UNSET)


def _warnings(document: Document, ignored: Sequence[str]) -> list[str]:
    return [*map(errors.in_their_terms, document.warnings), *ignored]
