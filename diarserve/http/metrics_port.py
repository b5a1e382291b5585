"""A second port for those who watch the server: /metrics and /stats without a key, and the probes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from aiohttp import web

from diarserve.http import guard, middleware
from diarserve.http.client_limits import ClientLimit
from diarserve.http.context import CONNECTIONS, GATE, SERVICE
from diarserve.http.gate import Gate
from diarserve.http.routes import operations
from diarserve.http.server import Runner

log = logging.getLogger(__name__)


async def serve(app: web.Application) -> AsyncIterator[None]:
    """While the application runs, where `[access] metrics_port` is set. Raises OSError where the address is taken."""
    settings = app[SERVICE].settings
    host, port = settings.access.metrics_host, settings.access.metrics_port
    if port is None:
        yield
        return
    watched = web.Application(middlewares=[middleware.identify, middleware.answer_errors, guard.guard])
    watched[SERVICE] = app[SERVICE]
    watched[CONNECTIONS] = ClientLimit(settings.limits.max_client_connections, "connections")
    watched[GATE] = Gate(settings, None, host, anonymous="metrics")
    watched.add_routes(operations.routes)
    watched.on_response_prepare.extend((middleware.show_request_id, guard.add_headers))
    runner = Runner(watched, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        log.info("metrics are at %s", ", ".join("http://{}:{}".format(*address) for address in runner.addresses))
        yield
    finally:
        await runner.cleanup()
