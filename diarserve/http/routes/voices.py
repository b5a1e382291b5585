"""Endpoints of stored voices. A key sees its own; without `enabled` in [voices] all of them answer 404."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct
from pydantic import BaseModel, ConfigDict, Field

from diarserve.core.options import parse
from diarserve.http import uploads
from diarserve.http.context import SERVICE
from diarserve.http.guard import client, require_still_known
from diarserve.http.openapi.describe import ACCEPTING, Answer, Form, describe
from diarserve.http.responses import json
from diarserve.service import alone
from diarserve.tasks.task import Task
from diarserve.tasks.views import Moment, moment
from diarserve.transcript.document import Seconds
from diarserve.voices.voice import Sample, Voice

routes = web.RouteTableDef()

_PATH = "/api/v1/parallel/voices"
_ONE = _PATH + "/{voice_id}"
_RECEIVING = (*ACCEPTING, 404, 500, 503)


class Named(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(description="What transcripts call the speaker. A key has one voice of a name.")]


class Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


class VoiceSample(Struct):
    seconds: Annotated[Seconds, Meta(description="Of speech.")]
    clipping: Annotated[float, Meta(description="Share of the samples that are clipped.")]
    added_at: Moment | None


class StoredVoice(Struct):
    voice_id: str
    name: str
    created_at: Moment | None
    model: Annotated[str, Meta(description="That made the embeddings. Voices of another model are not compared.")]
    seconds: Annotated[Seconds, Meta(description="Of speech, all samples together.")]
    samples: Sequence[VoiceSample]


class VoicesPage(Struct):
    voices: Sequence[StoredVoice]


class ExportedSample(Struct):
    embedding: Annotated[str, Meta(description="float32, little-endian, in base64.")]
    dimension: int
    seconds: Seconds
    clipping: float
    model: str
    added_at: Moment | None


class ExportedVoice(Struct):
    voice_id: str
    name: str
    created_at: Moment | None
    samples: Sequence[ExportedSample]


@routes.post(_PATH)
@describe(
    "Keep a voice",
    {201: Answer("It is known to this key's later requests.", StoredVoice)},
    tag="voices",
    errors=_RECEIVING,
    form=Form(Named, "files", references=False),
    needs="submit",
)
async def enrol(request: web.Request) -> web.Response:
    voices, owner = request.app[SERVICE].voices.store, client(request).owner
    with uploads.new_folders(request.app[SERVICE]) as new_folder:
        form = await uploads.receive(request, new_folder, request.app[SERVICE].settings.limits)
        name = voices.require_room(owner, parse(Named, form.fields).name)
        samples = await _measured(request, form)
        require_still_known(request)
        voice = voices.add(owner, name, samples)
    return json(_shown(voice), 201)


@routes.post(_ONE + "/samples")
@describe(
    "Add samples to a voice: more recordings of the same person",
    {200: Answer("The voice with them. Samples of another model are gone.", StoredVoice)},
    tag="voices",
    errors=_RECEIVING,
    form=Form(Nothing, "files", references=False),
    needs="submit",
)
async def add_samples(request: web.Request) -> web.Response:
    voices, id, sees = request.app[SERVICE].voices.store, request.match_info["voice_id"], client(request).sees
    voices.get(id, sees)
    with uploads.new_folders(request.app[SERVICE]) as new_folder:
        form = await uploads.receive(request, new_folder, request.app[SERVICE].settings.limits)
        parse(Nothing, form.fields)
        voice = voices.extend(id, sees, await _measured(request, form))
    return json(_shown(voice))


@routes.get(_PATH)
@describe(
    "The voices, by name", {200: Answer("Those of this key.", VoicesPage)}, tag="voices", errors=[404], needs="read"
)
async def voices(request: web.Request) -> web.Response:
    return json(VoicesPage([_shown(voice) for voice in request.app[SERVICE].voices.store.of(client(request).sees)]))


@routes.get(_ONE)
@describe("A voice", {200: Answer("What is known of it.", StoredVoice)}, tag="voices", errors=[404], needs="read")
async def voice(request: web.Request) -> web.Response:
    return json(_shown(_own(request)))


@routes.get(_ONE + "/export")
@describe(
    "All that is kept of a voice",
    {200: Answer("With its embeddings.", ExportedVoice)},
    tag="voices",
    errors=[404],
    needs="submit",
)
async def export(request: web.Request) -> web.Response:
    voice = _own(request)
    samples = [
        ExportedSample(
            base64.b64encode(sample.embedding).decode(),
            len(sample.embedding) // 4,
            sample.seconds,
            sample.clipping,
            sample.model,
            moment(sample.added_at),
        )
        for sample in voice.samples
    ]
    return json(ExportedVoice(voice.id, voice.name, moment(voice.created_at), samples))


@routes.delete(_ONE)
@describe(
    "Delete a voice: nothing of it stays",
    {200: Answer("As it was.", StoredVoice)},
    tag="voices",
    errors=[404],
    needs="submit",
)
async def delete(request: web.Request) -> web.Response:
    id, sees = request.match_info["voice_id"], client(request).sees
    return json(_shown(request.app[SERVICE].voices.store.delete(id, sees)))


def _own(request: web.Request) -> Voice:
    return request.app[SERVICE].voices.store.get(request.match_info["voice_id"], client(request).sees)


async def _measured(request: web.Request, form: uploads.Form) -> list[Sample]:
    """Of every file. Raises ServiceError."""
    service = request.app[SERVICE]
    service.require_ready()
    with service.tasks.request_slot() as slot:
        slot.grow(len(form.recordings))
        for upload in form.recordings:
            if upload.error:
                raise upload.error
        return [await alone.sample(service, Task(upload.folder, upload.filename)) for upload in form.recordings]


def _shown(voice: Voice) -> StoredVoice:
    samples = [VoiceSample(one.seconds, one.clipping, moment(one.added_at)) for one in voice.samples]
    return StoredVoice(voice.id, voice.name, moment(voice.created_at), voice.model, round(voice.seconds, 3), samples)
