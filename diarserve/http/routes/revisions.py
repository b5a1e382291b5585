"""Endpoints of what people change in finished transcripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from diarserve.http.context import SERVICE
from diarserve.http.json_body import json_body
from diarserve.http.openapi.describe import WORKING, Answer, describe
from diarserve.http.ownership import own_task
from diarserve.http.responses import completed, json
from diarserve.tasks import revisions as revising
from diarserve.tasks.views import Count, Moment, moment
from diarserve.transcript.changes import Change

routes = web.RouteTableDef()

_PATH = "/api/v1/parallel/result/{task_id}"


class Revise(Struct, forbid_unknown_fields=True):
    revision: Annotated[Count, Meta(description="Of the transcript that you changed; 0 where it was never revised.")]
    changes: Annotated[
        Sequence[Change],
        Meta(min_length=1, max_length=1000, description="Made in this order, all of them or none."),
    ]


class Revised(Struct):
    task_id: str
    revision: Annotated[Count, Meta(description="The new one.")]


class KeptRevision(Struct):
    revision: Count
    created_at: Moment | None
    changes: Sequence[Change]


class Revisions(Struct):
    task_id: str
    revisions: Annotated[Sequence[KeptRevision], Meta(description="Oldest first.")]


@routes.patch(_PATH)
@describe(
    "Revise a transcript: name speakers, give words to others, correct the text",
    {200: Answer("It is in every format from now on.", Revised)},
    tag="tasks",
    errors=(*WORKING, 404, 408, 409, 410, 507),
    body=Revise,
    needs="submit",
)
async def revise(request: web.Request) -> web.Response:
    service, row = request.app[SERVICE], await own_task(request)
    asked = await json_body(request, Revise, service.settings.limits)
    body = await completed(service, row.id)
    number = await revising.revise(service.store, row.id, body, asked.revision, asked.changes)
    return json(Revised(row.id, number))


@routes.get(_PATH + "/revisions")
@describe(
    "What was changed in a transcript, and when",
    {200: Answer("All of it. `result` has `revision` for the transcript as of one of them.", Revisions)},
    tag="tasks",
    errors=[404],
    needs="read",
)
async def revisions(request: web.Request) -> web.Response:
    service, row = request.app[SERVICE], await own_task(request)
    kept = [
        KeptRevision(one.number, moment(one.created_at), msgspec.json.decode(one.changes, type=tuple[Change, ...]))
        for one in await service.store.revisions(row.id)
    ]
    return json(Revisions(row.id, kept))
