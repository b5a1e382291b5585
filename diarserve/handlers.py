"""The HTTP endpoints."""

from __future__ import annotations

import asyncio
import shutil

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from diarserve import forms, pipeline
from diarserve.errors import NotReady
from diarserve.keys import LANES, METRICS, SETTINGS, TASKS
from diarserve.middleware import json
from diarserve.state import lanes_state

routes = web.RouteTableDef()


@routes.post("/api/v1/parallel/transcribe")
async def transcribe(request: web.Request) -> web.Response:
    settings, lanes, tasks = request.app[SETTINGS], request.app[LANES], request.app[TASKS]
    for lane in lanes:
        if lane.halted or not (lane.ready or lane.info):
            raise NotReady(f"The {lane.name} worker is not ready; see /readyz.", retry_after=5)
    with tasks.admit() as task:
        try:
            await asyncio.to_thread(task.folder.mkdir)
            upload, task.options = await forms.read(request, task.folder, settings.limits)
            task.filename = upload.filename
            document = await pipeline.run(
                task,
                lanes,
                request.app[METRICS],
                max_seconds=settings.limits.max_audio_seconds,
                parallel=settings.parallel_processing,
            )
        finally:
            shutil.rmtree(task.folder, ignore_errors=True)  # two files: quicker than a thread
        tasks.record(document)
    return json(document)


@routes.get("/livez")
async def livez(request: web.Request) -> web.Response:
    return json({"status": "alive"})


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    lanes = lanes_state(request.app)
    ready = all(lane["ready"] for lane in lanes.values())
    return json(
        {
            "status": "ready" if ready else "not ready",
            "lanes": {
                name: lane["halted"] or ("ready" if lane["ready"] else "starting") for name, lane in lanes.items()
            },
        },
        status=200 if ready else 503,
    )


@routes.get("/stats")
async def stats(request: web.Request) -> web.Response:
    return json(request.app[TASKS].stats() | {"lanes": lanes_state(request.app)})


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    return web.Response(body=request.app[METRICS].render(), headers={"Content-Type": CONTENT_TYPE_LATEST})
