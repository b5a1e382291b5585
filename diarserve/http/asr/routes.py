"""The endpoints of whisper-asr-webservice, for clients that speak to it, such as Bazarr and Speakr: same parameters,
same answers. Errors are those of this server.

https://github.com/ahmetoner/whisper-asr-webservice
"""

from __future__ import annotations

from functools import partial
from urllib.parse import quote

from aiohttp import web
from pydantic import BaseModel

from diarserve.core.options import validate
from diarserve.core.settings import Subtitles
from diarserve.http import uploads
from diarserve.http.asr import shapes
from diarserve.http.asr.options import OUTPUTS, AsrParameters, Encoded, last
from diarserve.http.asr.raw import RawSamples
from diarserve.http.audio import audio_reserved
from diarserve.http.context import SERVICE
from diarserve.http.guard import client
from diarserve.http.openai.shapes import language_name
from diarserve.http.openapi.describe import RECEIVING, WORKING, Answer, Form, describe, parameters_of
from diarserve.http.recordings import Chunks
from diarserve.http.responses import json, large_response
from diarserve.service import alone
from diarserve.service.service import Service
from diarserve.tasks.task import Task
from diarserve.transcript.document import Document

routes = web.RouteTableDef()


class NoFields(BaseModel):
    """The parameters stand in the query; those that are sent as fields count too."""


_describe = partial(
    describe,
    tag="whisper-asr-webservice",
    errors=(*RECEIVING, *WORKING, 503),
    form=Form(NoFields, "audio_file", open=True, references=False),
    needs="submit",
)
_TRANSCRIPT = Answer(
    f"The transcript as a file of the type that `output` names: {', '.join(OUTPUTS)}. JSON too is sent as text/plain.",
    other={"text/plain": str},
    headers={"Asr-Engine": "diarserve", "Content-Disposition": "The recording's name, and the type."},
    mentions=[shapes.AsrAnswer],
)


@routes.post("/asr")
@_describe(
    "Transcribe, asked as whisper-asr-webservice is", {200: _TRANSCRIPT}, parameters=parameters_of(AsrParameters)
)
async def asr(request: web.Request) -> web.Response:
    service, owner = request.app[SERVICE], client(request).owner
    service.require_ready()
    with service.tasks.request_slot() as slot, uploads.new_folders(service) as new_folder:
        form = await _receive(request, service, new_folder)
        slot.grow(1)
        asked, upload = validate(AsrParameters, last(form.fields)), form.upload
        ours = asked.ours(service.lanes.whisper.info.get("accepts", ()))
        service.check(ours, owner)
        task = Task(upload.folder, upload.filename, ours, translate=asked.task == "translate", owner=owner)
        with audio_reserved(request, form.uploads):
            document = await service.process(task)
    response = await large_response(document.words, _shaped, document, asked, service.settings.subtitles)
    response.headers["Asr-Engine"] = "diarserve"
    response.headers["Content-Disposition"] = f'attachment; filename="{quote(upload.filename)}.{asked.output}"'
    return response


@routes.post("/detect-language")
@_describe(
    "In which language a recording is",
    {200: Answer("By the first half minute of speech.", shapes.DetectedLanguage)},
    parameters=parameters_of(Encoded),
)
async def detect_language(request: web.Request) -> web.Response:
    service, owner = request.app[SERVICE], client(request).owner
    service.require_ready()
    with service.tasks.request_slot() as slot, uploads.new_folders(service) as new_folder:
        form = await _receive(request, service, new_folder)
        slot.grow(1)
        upload = form.upload
        with audio_reserved(request, form.uploads):
            found = await alone.language(service, Task(upload.folder, upload.filename, owner=owner))
    return json(shapes.DetectedLanguage(language_name(found.language), found.language, found.probability))


async def _receive(request: web.Request, service: Service, new_folder: uploads.NewFolder) -> uploads.Form:
    """Whether the recording has a header is said in the query, before it comes."""
    encoded = validate(Encoded, dict(request.query)).encode
    return await uploads.receive(
        request, new_folder, service.settings.limits, name="audio_file", read=_as_it_is if encoded else RawSamples
    )


def _as_it_is(part: Chunks) -> Chunks:
    return part


def _shaped(document: Document, asked: AsrParameters, style: Subtitles) -> tuple[bytes, str]:
    return shapes.answer(document, asked, style), "text/plain; charset=utf-8"
