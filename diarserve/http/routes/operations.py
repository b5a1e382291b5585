"""Endpoints for those who operate the service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from diarserve.core.types import Status
from diarserve.http.context import SERVICE
from diarserve.http.guard import client
from diarserve.http.openapi.describe import Answer, describe
from diarserve.http.responses import json
from diarserve.tasks.views import Count, Percent
from diarserve.transcript.document import Seconds

routes = web.RouteTableDef()

_TEXTS: Mapping[str, type] = {"text/plain": str, "application/openmetrics-text": str}


class Liveness(Struct):
    status: Literal["alive"]


class Readiness(Struct):
    status: Literal["ready", "not ready"]
    lanes: Annotated[
        Mapping[str, str],
        Meta(description="ready, asleep (the next job starts a worker), starting, or why a lane cannot."),
    ]


class ActiveTask(Struct, forbid_unknown_fields=True):
    task_id: str
    status: Status
    progress: Percent
    stage: str
    stages: Mapping[str, Percent]
    created_at: Annotated[float, Meta(description="Seconds since 1970.")]


class Queue(Struct, forbid_unknown_fields=True):
    queued: Count
    callbacks: Annotated[Count, Meta(description="Due, or to be made again.")]


class Stored(Struct, forbid_unknown_fields=True):
    tasks: Mapping[Status, Count]
    ever_completed: Count
    audio_seconds: Seconds


class LaneWorker(Struct, forbid_unknown_fields=True):
    number: Count
    pid: int | None
    jobs: Count
    restarts: Count
    leaving: Annotated[bool, Meta(description="It ends once its jobs are done.")]
    halted: str | None
    last_error: str | None
    device: str | None
    memory: Mapping[str, Count]


class Scaling(Struct, forbid_unknown_fields=True):
    min_workers: Count
    max_workers: Count
    wanted: Annotated[Count, Meta(description="Workers that there are to be now.")]
    last: Annotated[str | None, Meta(description="The last decision, and why.")]


class LaneQueue(Struct, forbid_unknown_fields=True):
    jobs: Count
    oldest: Seconds


class LaneStats(Struct, forbid_unknown_fields=True):
    ready: bool
    asleep: Annotated[bool, Meta(description="It has no worker since there is nothing to do: the next job starts one.")]
    halted: Annotated[str | None, Meta(description="Why it cannot start.")]
    queued: Count
    oldest_queued: Seconds
    waiting: Annotated[Mapping[str, LaneQueue], Meta(description="By priority, and `live`.")]
    model: Annotated[Mapping[str, Any], Meta(description="What the engine says of itself.")]
    workers: Sequence[LaneWorker]
    scaling: Scaling


class Stats(Struct, forbid_unknown_fields=True):
    total_tasks: Count
    completed_tasks: Count
    failed_tasks: Count
    cancelled_tasks: Count
    average_processing_time: Seconds
    average_stage_times: Mapping[str, Seconds]
    active_tasks: Annotated[Sequence[ActiveTask], Meta(description="Empty for a key of the role `metrics`.")]
    queue: Queue
    store: Stored
    lanes: Mapping[str, LaneStats]
    workers: Count


@routes.get("/livez")
@describe("Whether the process runs", {200: Answer("It does.", Liveness)}, needs=None)
async def livez(request: web.Request) -> web.Response:
    return json(Liveness("alive"))


@routes.get("/readyz")
@describe(
    "Whether plain requests can be served",
    {200: Answer("Yes.", Readiness), 503: Answer("No, and why.", Readiness)},
    needs=None,
)
async def readyz(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    lanes, ready = service.lanes_state(), service.ready
    states = {name: _state(lane) for name, lane in lanes.items()}
    if not service.backlog.connected:
        states["store"] = "the database does not answer"
    if service.draining:
        states = dict.fromkeys(states, "the server is drained for maintenance")
    if service.stopping:
        states = dict.fromkeys(states, "the server is shutting down")
    return json(Readiness("ready" if ready else "not ready", states), status=200 if ready else 503)


def _state(lane: Mapping[str, Any]) -> str:
    reason: str | None = lane["halted"]
    return reason or next((state for state in ("ready", "asleep") if lane[state]), "starting")


@routes.get("/stats")
@routes.get("/api/v1/parallel/stats")
@describe("Tasks, queue and workers", {200: Answer("Since the start.", Stats)}, needs="metrics")
async def stats(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    await service.look()
    state, totals = await asyncio.to_thread(service.state), await service.store.totals()
    answer = {
        **service.tasks.stats(),
        "queue": {"queued": state.durable["queued"], "callbacks": state.callbacks},
        "store": {"tasks": state.durable, "ever_completed": totals.completed, "audio_seconds": totals.audio_seconds},
        "lanes": state.lanes,
        "workers": sum(len(lane["workers"]) for lane in state.lanes.values()),
    }
    if client(request).sees is not None:
        answer["active_tasks"] = []
    return json(msgspec.convert(answer, Stats))  # so that nothing is answered that is not described


@routes.get("/metrics")
@describe(
    "Metrics, for Prometheus",
    {200: Answer("All of them; OpenMetrics, with exemplars, where the client accepts that.", other=_TEXTS)},
    needs="metrics",
)
async def metrics(request: web.Request) -> web.Response:
    body, content_type = await request.app[SERVICE].render_metrics(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})
