"""The application: what it holds, and how it starts and stops."""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator

from aiohttp import web

from diarserve import __version__
from diarserve.access.keyring import Keyring
from diarserve.core.settings import Settings
from diarserve.http import compression, drain, guard, metrics_port, middleware, traced
from diarserve.http.asr import routes as asr
from diarserve.http.client_limits import ClientLimit
from diarserve.http.context import CONNECTIONS, GATE, LIVE, REQUESTS, ROUTES, SERVICE
from diarserve.http.deepgram import routes as deepgram
from diarserve.http.gate import Gate
from diarserve.http.live import deepgram as live_deepgram
from diarserve.http.live import native, realtime_route
from diarserve.http.openai import diarization
from diarserve.http.openai import routes as openai
from diarserve.http.openapi import document as openapi
from diarserve.http.routes import (
    docs,
    events,
    features,
    keys,
    lanes,
    maintenance,
    operations,
    pages,
    revisions,
    tasks,
    transcribe,
    voices,
)
from diarserve.live.sessions import LiveSessions
from diarserve.service.service import Service

# Every endpoint of the server. How to add one: diarserve/http/routes/__init__.py.
_LIVE = (native, live_deepgram, realtime_route)
_OPERATION = (events, features, keys, lanes, operations, maintenance)
_COMPATIBLE = (openai, diarization, deepgram, asr)
_MODULES = (transcribe, tasks, revisions, voices, *_OPERATION, *_COMPATIBLE, *_LIVE, openapi, docs, pages)
TABLES = tuple(module.routes for module in _MODULES)


def make(settings: Settings) -> web.Application:
    """Raises ConfigError for access keys that cannot be read."""
    app = web.Application(
        middlewares=[
            middleware.identify,
            middleware.count,
            *([traced.trace] if settings.tracing.enabled else []),
            compression.compress,
            middleware.answer_errors,
            middleware.limit_client,
            guard.guard,
            drain.refuse_when_stopping,
        ],
        client_max_size=0,  # no limit of aiohttp's own: uploads.receive streams and counts
    )
    app[SERVICE] = Service(settings)
    build = {"version": __version__, "python": platform.python_version()}
    app[SERVICE].metrics.describe(build, {"hash": settings.fingerprint()})
    app[LIVE] = LiveSessions(app[SERVICE])
    app[CONNECTIONS] = ClientLimit(settings.limits.max_client_connections, "connections")
    app[REQUESTS] = ClientLimit(settings.limits.max_client_requests, "requests")
    app[GATE] = Gate(settings, Keyring(settings), settings.host)
    app[drain.DRAIN] = drain.Drain()
    app[ROUTES] = TABLES
    for table in TABLES:
        app.add_routes(table)
    app.on_response_prepare.extend((middleware.show_request_id, guard.add_headers, drain.close_connection))
    app.cleanup_ctx.extend((_service, metrics_port.serve))
    app.on_shutdown.append(_stop)  # before open requests are waited for: some wait for tasks
    return app


async def _service(app: web.Application) -> AsyncIterator[None]:
    await app[SERVICE].start()
    yield
    await app[SERVICE].close()


async def _stop(app: web.Application) -> None:
    await app[LIVE].close()
    await app[SERVICE].stop()
