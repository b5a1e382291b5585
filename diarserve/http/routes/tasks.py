"""Endpoints of tasks that survive: their clients come back for the result."""

from __future__ import annotations

from aiohttp import web

from diarserve.core.errors import InvalidRequest, NotFound
from diarserve.core.options import Options, parse
from diarserve.core.types import STATUSES
from diarserve.http import uploads
from diarserve.http.context import SERVICE
from diarserve.http.responses import finished, json
from diarserve.http.routes.transcribe import idempotency_key
from diarserve.tasks import views
from diarserve.tasks.store.protocol import TaskRow
from diarserve.tasks.task import new_id

routes = web.RouteTableDef()


@routes.post("/api/v1/parallel/transcribe/async")
async def submit(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    with service.tasks.request_slot(), uploads.new_folders(service) as new_folder:
        key = idempotency_key(request)
        await service.backlog.admit()
        form = await uploads.receive(request, new_folder, service.settings.limits)
        options, upload = parse(Options, form.fields), form.upload
        service.check(options)
        recording = [(upload.folder, upload.filename)]
        [row] = await service.backlog.submit(recording, options, options.priority or "normal", key=key)
    accepted = views.accepted(row)
    return json(accepted, _accepted(request), {"Location": accepted.status_url})


@routes.post("/api/v1/parallel/batch/async")
async def submit_batch(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    with service.tasks.request_slot(), uploads.new_folders(service) as new_folder:
        key = idempotency_key(request)
        await service.backlog.admit()
        form = await uploads.receive(request, new_folder, service.settings.limits)
        options = parse(Options, form.fields)
        service.check(options)
        for upload in form.recordings:
            if upload.error:
                message = f"{upload.filename}: {upload.error.message}"
                raise type(upload.error)(message, code=upload.error.code, param="files")
        rows = await service.backlog.submit(
            [(upload.folder, upload.filename) for upload in form.uploads],
            options,
            options.priority or "low",
            batch_id=new_id(),
            key=key,
        )
    accepted = views.accepted_batch(rows[0].batch_id or "", rows)
    return json(accepted, _accepted(request), {"Location": accepted.status_url})


@routes.get("/api/v1/parallel/status/{task_id}")
async def status(request: web.Request) -> web.Response:
    service, row = request.app[SERVICE], await _row(request)
    ahead = await service.store.ahead(row.id) if row.status == "queued" else None
    return json(views.StatusAnswer(views.task_status(row, service.tasks.find(row.id), ahead)))


@routes.get("/api/v1/parallel/result/{task_id}")
async def result(request: web.Request) -> web.Response:
    row = await _row(request)
    asked = {name: request.query.getall(name) for name in ("format", "response_format") if name in request.query}
    options = parse(Options, asked) if asked else Options.model_validate(row.options)
    return await finished(request.app[SERVICE], row.id, options.response_format)


@routes.delete("/api/v1/parallel/tasks/{task_id}")
async def cancel(request: web.Request) -> web.Response:
    row = await request.app[SERVICE].backlog.cancel(request.match_info["task_id"])
    if row is None:
        raise NotFound(f"There is no task {request.match_info['task_id'][:64]}.")
    return json(views.StatusAnswer(views.task_status(row)))


@routes.get("/api/v1/parallel/tasks")
async def tasks(request: web.Request) -> web.Response:
    service, query = request.app[SERVICE], request.query
    wanted = next((status for status in STATUSES if status == query.get("status")), None)
    if "status" in query and wanted is None:
        raise InvalidRequest(f"status must be one of {', '.join(STATUSES)}.", param="status")
    limit = query.get("limit", "50")
    if not (limit.isdecimal() and len(limit) <= 4 and 1 <= int(limit) <= 1000):
        raise InvalidRequest("limit must be a number from 1 to 1000.", param="limit")
    rows = await service.store.page(
        status=wanted, batch_id=query.get("batch_id"), limit=int(limit), before=query.get("before")
    )
    shown = [views.task_status(row, service.tasks.find(row.id)) for row in rows]
    return json(views.TasksPage(shown, rows[-1].id if len(rows) == int(limit) else None))


@routes.get("/api/v1/parallel/batches/{batch_id}")
async def batch(request: web.Request) -> web.Response:
    batch_id = request.match_info["batch_id"][:64]
    return json(views.batch(batch_id, await request.app[SERVICE].store.batch(batch_id)))


async def _row(request: web.Request) -> TaskRow:
    """Raises NotFound."""
    row = await request.app[SERVICE].store.get(request.match_info["task_id"])
    if row is None:
        raise NotFound(f"There is no task {request.match_info['task_id'][:64]}.")
    return row


def _accepted(request: web.Request) -> int:
    """202, but for the service's specified Python client, which is to run unmodified and takes 200 only: to
    python-requests that states no preference (RFC 7240)."""
    specified = request.headers.get("User-Agent", "").startswith("python-requests/")
    return 200 if specified and "respond-async" not in request.headers.get("Prefer", "") else 202
