"""What the application holds, by typed key: `request.app[SERVICE]` in a handler."""

from __future__ import annotations

from aiohttp import web

from diarserve.http.client_limits import ClientLimit
from diarserve.http.gate import Gate
from diarserve.live.sessions import LiveSessions
from diarserve.service.service import Service

SERVICE = web.AppKey("service", Service)  # lanes, pipeline, tasks: everything but HTTP
GATE = web.AppKey("gate", Gate)  # who may ask
CONNECTIONS = web.AppKey("connections", ClientLimit)  # open ones of each client
REQUESTS = web.AppKey("requests", ClientLimit)  # ... and requests that it waits for
LIVE = web.AppKey("live", LiveSessions)  # those that are open
ROUTES = web.AppKey("routes", tuple[web.RouteTableDef, ...])  # what the OpenAPI document describes
