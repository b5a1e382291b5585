"""What the application holds, by typed key: `request.app[SERVICE]` in a handler."""

from __future__ import annotations

from aiohttp import web

from diarserve.service.service import Service

SERVICE = web.AppKey("service", Service)  # lanes, pipeline, tasks: everything but HTTP
ROUTES = web.AppKey("routes", tuple[web.RouteTableDef, ...])  # what the OpenAPI document describes
