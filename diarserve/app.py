"""The application: what it holds, and how it starts and stops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from aiohttp import web

from diarserve import forms, handlers, middleware
from diarserve.keys import LANES, METRICS, SETTINGS, SPOOL, TASKS
from diarserve.lanes import Lane
from diarserve.metrics import Metrics
from diarserve.pipeline import Lanes
from diarserve.settings import MIB, Settings
from diarserve.settings import Lane as LaneSettings
from diarserve.state import state
from diarserve.tasks import Tasks
from workers.messages import WorkerSpec


def make(settings: Settings) -> web.Application:
    app = web.Application(
        middlewares=[middleware.count, middleware.answer_errors],
        client_max_size=0,  # no limit of aiohttp's own: forms.read streams and counts
    )
    app[SETTINGS] = settings
    app[METRICS] = metrics = Metrics()
    app[LANES] = make_lanes(settings, metrics)
    app[SPOOL] = spool = settings.data_dir / "spool"
    app[TASKS] = Tasks(spool, settings.limits.max_pending, metrics)
    metrics.watch(partial(state, app))
    app.add_routes(handlers.routes)
    app.cleanup_ctx.append(_workers)
    return app


def make_lanes(settings: Settings, metrics: Metrics) -> Lanes:
    def lane(name: str, section: LaneSettings) -> Lane:
        spec = WorkerSpec(
            lane=name,
            engine=section.engine,
            options=section.options,
            environment=section.environment,
            memory_limit=section.memory_limit_mib and section.memory_limit_mib * MIB,
            fill=section.fill,
            step_timeout=section.step_timeout,
            log_level=settings.log_level,
        )
        return Lane(
            spec,
            metrics,
            workers=section.workers,
            width=section.width,
            attempts=settings.limits.attempts,
            boot_timeout=section.boot_timeout,
        )

    return Lanes(
        decode=lane("decode", settings.decode),
        whisper=lane("whisper", settings.whisper),
        diarize=lane("diarize", settings.diarize),
    )


async def _workers(app: web.Application) -> AsyncIterator[None]:
    forms.sweep(app[SPOOL])
    for lane in app[LANES]:
        lane.start()
    yield
    for lane in app[LANES]:
        await lane.close()
    forms.sweep(app[SPOOL])
