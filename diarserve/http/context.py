"""What the application holds, by typed key: `request.app[SERVICE]` in a handler."""

from __future__ import annotations

from aiohttp import web

from diarserve.http.gate import Gate
from diarserve.service.service import Service

SERVICE = web.AppKey("service", Service)  # lanes, pipeline, tasks: everything but HTTP
GATE = web.AppKey("gate", Gate)  # who may ask
ROUTES = web.AppKey("routes", tuple[web.RouteTableDef, ...])  # what the OpenAPI document describes
