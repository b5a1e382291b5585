"""Endpoints whose clients wait for the transcript."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web
from msgspec import Raw, structs

from diarserve.core.encoding import encode_in_pieces
from diarserve.core.errors import InvalidRequest, ServiceError
from diarserve.core.options import Options, parse
from diarserve.http import uploads
from diarserve.http.audio import audio_reserved
from diarserve.http.context import SERVICE
from diarserve.http.guard import client
from diarserve.http.openapi.describe import IDEMPOTENCY_KEY, RECEIVING, WORKING, Answer, Form, describe
from diarserve.http.responses import large_response, task_result, transcript_response
from diarserve.tasks import views
from diarserve.tasks.task import Task, new_id
from diarserve.transcript.document import Document, encode
from diarserve.transcript.formats import FORMATS

routes = web.RouteTableDef()


TRANSCRIPT = Answer(
    "The transcript, in the format asked for.",
    Document,
    other={shape.content_type.partition(";")[0]: str for name, shape in FORMATS.items() if name != "json"},
)


@routes.post("/api/v1/parallel/transcribe")
@describe(
    "A recording in, who said what out",
    {200: TRANSCRIPT},
    tag="transcripts",
    errors=(*RECEIVING, *WORKING, 409, 410, 503),
    parameters=[IDEMPOTENCY_KEY],
    form=Form(Options, without=["callback_url"], raw=True),
    needs="submit",
)
async def transcribe(request: web.Request) -> web.Response:
    service, owner = request.app[SERVICE], client(request).owner
    service.require_ready()
    with service.tasks.request_slot() as slot, uploads.new_folders(service) as new_folder:
        form = await uploads.receive(request, new_folder, service.settings.limits, raw=True)
        slot.grow(1)
        options, upload = parse(Options, form.fields), form.upload
        service.check(options, owner)
        refuse_callback(options)
        priority = options.priority or "high"
        with audio_reserved(request, form.uploads) as kept:
            if key := idempotency_key(request):
                # Asked again, the same answer: so it must survive, as a task does.
                recording = [(upload.folder, upload.filename)]
                [row] = await service.backlog.submit(recording, options, priority, key=key, owner=owner)
                kept.add(row.id)
                await service.backlog.ended(row)
                return await task_result(service, row, options.response_format)
            document = await service.process(Task(upload.folder, upload.filename, options, priority, owner=owner))
    return await transcript_response(service, document, options.response_format)


@routes.post("/api/v1/parallel/batch")
@describe(
    "Many recordings in, a transcript or an error for each out",
    {200: Answer("In the order of the files.", views.BatchResults, mentions=[Document, views.FailedFile])},
    tag="transcripts",
    errors=(*RECEIVING, 415, 503),
    form=Form(Options, "files", without=["callback_url"]),
    needs="submit",
)
async def batch(request: web.Request) -> web.Response:
    service, owner = request.app[SERVICE], client(request).owner
    service.require_ready()
    with service.tasks.request_slot() as slot, uploads.new_folders(service) as new_folder:
        form = await uploads.receive(request, new_folder, service.settings.limits)
        options = parse(Options, form.fields)
        service.check(options, owner)
        refuse_callback(options)
        recordings, began = form.recordings, time.monotonic()
        slot.grow(len(recordings))
        places = asyncio.Semaphore(service.settings.limits.running)

        async def one(upload: uploads.Upload) -> Document | ServiceError:
            if upload.error:
                return upload.error
            task = Task(upload.folder, upload.filename, options, options.priority or "low", owner=owner)
            async with places:
                try:
                    return await service.process(task)
                except ServiceError as error:
                    return error

        with audio_reserved(request, recordings):
            try:
                async with asyncio.TaskGroup() as group:
                    running = [group.create_task(one(upload)) for upload in recordings]
            except* Exception as failures:  # the server's own: a full disk, or no descriptors
                raise failures.exceptions[0] from None
            results = [task.result() for task in running]
    answer = views.batch_results(
        new_id(),
        results,
        [upload.filename for upload in recordings],
        time.monotonic() - began,
        parallel=service.settings.parallel_processing,
    )
    words = sum(result.words for result in results if isinstance(result, Document))
    return await large_response(words, _encoded, answer)


def _encoded(answer: views.BatchResults) -> tuple[bytes, str]:
    results = [Raw(encode(one) if isinstance(one, Document) else encode_in_pieces(one)) for one in answer.results]
    return encode_in_pieces(structs.replace(answer, results=results)), "application/json"


def refuse_callback(options: Options) -> None:
    if options.callback_url:
        raise InvalidRequest("callback_url is for transcribe/async and batch/async.", param="callback_url")


def idempotency_key(request: web.Request) -> str | None:
    """Raises InvalidRequest."""
    key = request.headers.get("Idempotency-Key", "").strip()
    if len(key) > 255 or not key.isascii():
        raise InvalidRequest("The Idempotency-Key must be ASCII and at most 255 characters.", param="Idempotency-Key")
    return key or None
