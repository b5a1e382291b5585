"""Endpoints for those who operate the service."""

from __future__ import annotations

import asyncio

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from diarserve.http.context import SERVICE
from diarserve.http.responses import json

routes = web.RouteTableDef()


@routes.get("/livez")
async def livez(request: web.Request) -> web.Response:
    return json({"status": "alive"})


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    lanes, ready = service.lanes_state(), service.readiness.ready
    said = {name: lane["halted"] or ("ready" if lane["ready"] else "starting") for name, lane in lanes.items()}
    return json({"status": "ready" if ready else "not ready", "lanes": said}, status=200 if ready else 503)


@routes.get("/stats")
@routes.get("/api/v1/parallel/stats")
async def stats(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    counts, totals = await service.store.counts(), await service.store.totals()
    stored = {"tasks": counts, "ever_completed": totals.completed, "audio_seconds": totals.audio_seconds}
    return json(
        service.tasks.stats()
        | {"queue": {"queued": counts["queued"]}, "store": stored}
        | {
            "lanes": service.lanes_state(),
            "workers": sum(len(lane["workers"]) for lane in service.lanes_state().values()),
        }
    )


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    body = await asyncio.to_thread(request.app[SERVICE].metrics.render)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
