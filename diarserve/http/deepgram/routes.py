"""Deepgram's endpoint for recordings, for clients that speak to it: same parameters, same shapes, same errors.

https://developers.deepgram.com/reference/speech-to-text/listen-pre-recorded
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from diarserve.core.encoding import encode_in_pieces
from diarserve.core.errors import InvalidRequest, UnsupportedMedia
from diarserve.http import uploads
from diarserve.http.audio import audio_reserved
from diarserve.http.context import SERVICE
from diarserve.http.deepgram import errors, shapes
from diarserve.http.deepgram.options import RecordingParameters, Warned, read
from diarserve.http.fetched import receive_from_url
from diarserve.http.guard import client
from diarserve.http.openapi.describe import RECEIVING, WORKING, Answer, describe, parameters_of
from diarserve.http.recordings import Body, receive_recording, receiving
from diarserve.http.request_id import request_id
from diarserve.http.responses import large_response
from diarserve.tasks.task import Task
from diarserve.transcript.document import Document

routes = web.RouteTableDef()


@routes.post(errors.PATH)
@describe(
    "Transcribe, asked as Deepgram is",
    {200: Answer("Words, and what else was asked for.", shapes.ListenAnswer)},
    tag="Deepgram",
    errors=(*RECEIVING, *WORKING, 503),
    error=errors.DeepgramErrorAnswer,
    parameters=parameters_of(RecordingParameters),
    recording_is_body=True,
    needs="submit",
)
async def listen(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    service.require_ready()
    asked, warned = read(RecordingParameters, request.query)
    if request.content_type == "multipart/form-data":
        raise InvalidRequest("Send the recording itself as the body: no form is taken here.")
    with service.tasks.request_slot() as slot, uploads.new_folders(service) as new_folder:
        ours, owner = asked.ours(service.lanes.whisper.info.get("accepts", ())), client(request).owner
        service.check(ours, owner)
        upload = await _receive(request, new_folder())
        slot.grow(1)
        sha256 = await asyncio.to_thread(_sha256, upload.folder / "upload")
        with audio_reserved(request, [upload]):
            document = await service.process(Task(upload.folder, upload.filename, ours, owner=owner))
    return await large_response(document.words, _shaped, document, asked, request_id(request), sha256, warned)


async def _receive(request: web.Request, folder: Path) -> uploads.Upload:
    """Raises ServiceError."""
    limits = request.app[SERVICE].settings.limits
    if request.content_type == "application/json":
        name, wrong = await receive_from_url(request, folder, limits)
        if wrong:
            raise wrong
        return uploads.Upload(folder, name, None)
    try:
        async with receiving(request, limits) as disk:
            wrong = await receive_recording(Body(request.content), folder, limits, disk)
    except web.RequestPayloadError as error:
        raise InvalidRequest("The body is cut short.") from error
    if isinstance(wrong, UnsupportedMedia) and "encoding" in request.query:
        raise UnsupportedMedia("Samples without a file around them are for the WebSocket.", param="encoding")
    if wrong:
        raise wrong
    return uploads.Upload(folder, "audio", None)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shaped(
    document: Document, asked: RecordingParameters, request_id: str, sha256: str, warned: Sequence[Warned]
) -> tuple[bytes, str]:
    return encode_in_pieces(shapes.answer(document, asked, request_id, sha256, warned)), "application/json"
