"""Who speaks when, without words, as speaches answers it beside OpenAI's endpoints. Whisper does not run.

https://speaches.ai/usage/diarization/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

from aiohttp import web
from msgspec import UNSET, Struct, UnsetType
from pydantic import BeforeValidator, ConfigDict, Field

from diarserve.core.options import CommonOptions, Options, Text, parse, validate
from diarserve.core.types import Diarizer
from diarserve.http import uploads
from diarserve.http.audio import audio_reserved
from diarserve.http.context import SERVICE
from diarserve.http.guard import client
from diarserve.http.openai import errors
from diarserve.http.openapi.describe import RECEIVING, WORKING, Answer, Form, describe
from diarserve.http.responses import json
from diarserve.service import alone
from diarserve.tasks.task import Task
from diarserve.transcript.document import Seconds, Turn
from diarserve.transcript.formats import rttm_of

routes = web.RouteTableDef()

_SHARED = frozenset(["num_speakers", "min_speakers", "max_speakers", "diarizer", "known_speaker_names", "known_voices"])


class DiarizationOptions(CommonOptions):
    """Of the options that transcriptions share, those that are about speakers count."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: Annotated[Text, Field(description="A diarizer by its name here; others mean the configured one.")] = None
    response_format: Annotated[Literal["json", "rttm"], BeforeValidator(lambda value: value or "json")] = "json"

    def ours(self) -> Options:
        """Raises InvalidRequest."""
        chosen = self.diarizer or (self.model if self.model in get_args(Diarizer) else None)
        return validate(Options, {**self.model_dump(include=set(_SHARED)), "diarizer": chosen})


class Diarization(Struct):
    duration: Seconds
    segments: Sequence[Turn]
    warnings: Sequence[str] | UnsetType = UNSET


@routes.post("/v1/audio/diarization")
@describe(
    "Who speaks when, asked as speaches is",
    {200: Answer("In the shape that was asked for.", Diarization, other={"text/plain": str})},
    tag="OpenAI",
    errors=(*RECEIVING, *WORKING, 503),
    error=errors.OpenAIErrorAnswer,
    form=Form(DiarizationOptions, without=set(CommonOptions.model_fields) - _SHARED, open=True),
    needs="submit",
)
async def diarization(request: web.Request) -> web.Response:
    service, owner = request.app[SERVICE], client(request).owner
    service.require_ready()
    with service.tasks.request_slot() as slot, uploads.new_folders(service) as new_folder:
        form = await uploads.receive(request, new_folder, service.settings.limits)
        slot.grow(1)
        asked, upload = parse(DiarizationOptions, form.fields), form.upload
        ours = asked.ours()
        service.check(ours, owner)
        with audio_reserved(request, form.uploads):
            found = await alone.turns(service, Task(upload.folder, upload.filename, ours, owner=owner))
    turns = [Turn(round(turn.start, 3), round(turn.end, 3), turn.speaker) for turn in found.turns]
    if asked.response_format == "rttm":
        return web.Response(text=rttm_of(upload.filename, turns, {}), content_type="text/plain")
    return json(Diarization(round(found.duration, 3), turns, found.warnings or UNSET))
