"""Endpoints of tasks that survive: their clients come back for the result."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta

from diarserve.core.errors import InvalidRequest, NotFound
from diarserve.core.options import Options, parse
from diarserve.core.types import STATUSES, Format, Status
from diarserve.http import uploads
from diarserve.http.audio import audio_reserved
from diarserve.http.context import SERVICE
from diarserve.http.guard import client
from diarserve.http.openapi.describe import (
    ACCEPTING,
    IDEMPOTENCY_KEY,
    PREFER,
    WORKING,
    Answer,
    Form,
    Parameter,
    describe,
)
from diarserve.http.ownership import own_task
from diarserve.http.responses import json, task_result
from diarserve.http.routes.transcribe import TRANSCRIPT, idempotency_key
from diarserve.tasks import views
from diarserve.tasks.task import new_id

routes = web.RouteTableDef()


Revision = Annotated[int, Meta(ge=0, le=9999)]

_LOCATION = {"Location": "Where to ask how it goes."}
_ONE = Answer("It will be worked on, whatever happens to this server.", views.Accepted, headers=_LOCATION)
_MANY = Answer("They will be worked on, whatever happens to this server.", views.AcceptedBatch, headers=_LOCATION)
_STATUS = Answer("Where the task is.", views.StatusAnswer)


@routes.post("/api/v1/parallel/transcribe/async")
@describe(
    "Queue a recording",
    {200: _ONE, 202: _ONE},
    tag="tasks",
    errors=ACCEPTING,
    parameters=[IDEMPOTENCY_KEY, PREFER],
    form=Form(Options, raw=True),
    needs="submit",
)
async def submit(request: web.Request) -> web.Response:
    service, owner = request.app[SERVICE], client(request).owner
    with uploads.new_folders(service) as new_folder:
        key = idempotency_key(request)
        await service.backlog.admit()
        form = await uploads.receive(request, new_folder, service.settings.limits, raw=True)
        options, upload = parse(Options, form.fields), form.upload
        service.check(options, owner)
        recording = [(upload.folder, upload.filename)]
        with audio_reserved(request, form.uploads) as kept:
            [row] = await service.backlog.submit(recording, options, options.priority or "normal", key=key, owner=owner)
            kept.add(row.id)
    accepted = views.accepted(row)
    return json(accepted, _accepted(request), {"Location": accepted.status_url})


@routes.post("/api/v1/parallel/batch/async")
@describe(
    "Queue many recordings: all of them, or none",
    {200: _MANY, 202: _MANY},
    tag="tasks",
    errors=ACCEPTING,
    parameters=[IDEMPOTENCY_KEY, PREFER],
    form=Form(Options, "files"),
    needs="submit",
)
async def submit_batch(request: web.Request) -> web.Response:
    service, owner = request.app[SERVICE], client(request).owner
    with uploads.new_folders(service) as new_folder:
        key = idempotency_key(request)
        await service.backlog.admit()
        form = await uploads.receive(request, new_folder, service.settings.limits)
        options = parse(Options, form.fields)
        service.check(options, owner)
        for upload in form.recordings:
            if upload.error:
                message = f"{upload.filename}: {upload.error.message}"
                raise type(upload.error)(message, code=upload.error.code, param="files")
        with audio_reserved(request, form.uploads) as kept:
            rows = await service.backlog.submit(
                [(upload.folder, upload.filename) for upload in form.uploads],
                options,
                options.priority or "low",
                batch_id=new_id(),
                key=key,
                owner=owner,
            )
            kept.update(row.id for row in rows)
    accepted = views.accepted_batch(rows[0].batch_id or "", rows)
    return json(accepted, _accepted(request), {"Location": accepted.status_url})


@routes.get("/api/v1/parallel/status/{task_id}")
@describe("How a task goes", {200: _STATUS}, tag="tasks", errors=[404], needs="read")
async def status(request: web.Request) -> web.Response:
    service, row = request.app[SERVICE], await own_task(request)
    ahead = await service.store.ahead(row.id) if row.status == "queued" else None
    return json(views.StatusAnswer(views.task_status(row, service.backlog.shown(row), ahead)))


@routes.get("/api/v1/parallel/result/{task_id}")
@describe(
    "A task's transcript",
    {200: TRANSCRIPT},
    tag="tasks",
    errors=(*WORKING, 404, 409, 410),
    parameters=[
        Parameter("response_format", type=Format, text="Default: the one that was asked for."),
        Parameter("format", type=Format, text="The same by a shorter name."),
        Parameter("revision", type=Revision, text="Default: the newest. 0: as the models left it."),
    ],
    needs="read",
)
async def result(request: web.Request) -> web.Response:
    row = await own_task(request)
    asked = {name: request.query.getall(name) for name in ("format", "response_format") if name in request.query}
    options = parse(Options, asked) if asked else Options.model_validate(row.options)
    return await task_result(request.app[SERVICE], row, options.response_format, _revision(request))


def _revision(request: web.Request) -> int | None:
    asked = request.query.getall("revision", [])
    if not asked:
        return None
    if len(asked) > 1 or not (asked[0].isascii() and asked[0].isdecimal() and len(asked[0]) <= 4):
        raise InvalidRequest("revision must be a number from 0 to 9999.", param="revision")
    return int(asked[0])


@routes.delete("/api/v1/parallel/tasks/{task_id}")
@describe(
    "Delete a task that has ended, with everything that is kept of it; cancel one that has not",
    {200: Answer("The task as it was, or cancelled.", views.StatusAnswer)},
    tag="tasks",
    errors=[404, 507],
    needs="submit",
)
async def delete(request: web.Request) -> web.Response:
    """A task that has ended is gone: its transcript, its Idempotency-Key and its callback, and every endpoint answers
    404. One that has not ended is cancelled, its recording is gone, and its status says "cancelled" until it is
    deleted too, or expires."""
    found = await own_task(request)
    row = await request.app[SERVICE].backlog.delete(found.id)
    if row is None:  # another request was quicker
        raise NotFound(f"There is no task {found.id}.")
    return json(views.StatusAnswer(views.task_status(row)))


@routes.get("/api/v1/parallel/tasks")
@describe(
    "Tasks, newest first",
    {200: Answer("One page of them.", views.TasksPage)},
    tag="tasks",
    errors=[400],
    parameters=[
        Parameter("status", type=Status),
        Parameter("batch_id"),
        Parameter("limit", type=Annotated[int, Meta(ge=1, le=1000)], default=50),
        Parameter("before", text="`next` of the page before this one, or a task's id."),
    ],
    needs="read",
)
async def tasks(request: web.Request) -> web.Response:
    service, query = request.app[SERVICE], request.query
    wanted = next((status for status in STATUSES if status == query.get("status")), None)
    if "status" in query and wanted is None:
        raise InvalidRequest(f"status must be one of {', '.join(STATUSES)}.", param="status")
    limit = query.get("limit", "50")
    if not (limit.isdecimal() and len(limit) <= 4 and 1 <= int(limit) <= 1000):
        raise InvalidRequest("limit must be a number from 1 to 1000.", param="limit")
    rows = await service.store.page(
        status=wanted,
        batch_id=query.get("batch_id"),
        owner=client(request).sees,
        limit=int(limit),
        before=query.get("before"),
    )
    shown = [views.task_status(row, service.backlog.shown(row)) for row in rows]
    return json(views.TasksPage(shown, rows[-1].cursor if len(rows) == int(limit) else None))


@routes.get("/api/v1/parallel/batches/{batch_id}")
@describe(
    "How a batch goes", {200: Answer("The batch and its tasks.", views.Batch)}, tag="tasks", errors=[404], needs="read"
)
async def batch(request: web.Request) -> web.Response:
    batch_id = request.match_info["batch_id"][:64]
    rows = await request.app[SERVICE].store.batch(batch_id, client(request).sees)
    return json(views.batch(batch_id, rows))


def _accepted(request: web.Request) -> int:
    """202, but for the service's specified Python client, which is to run unmodified and takes 200 only: to
    python-requests that states no preference (RFC 7240)."""
    specified = request.headers.get("User-Agent", "").startswith("python-requests/")
    return 200 if specified and "respond-async" not in request.headers.get("Prefer", "") else 202
