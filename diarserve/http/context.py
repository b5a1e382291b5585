"""What the application holds, by typed key."""

from __future__ import annotations

from aiohttp import web

from diarserve.service.service import Service

SERVICE = web.AppKey("service", Service)
ROUTES = web.AppKey("routes", tuple[web.RouteTableDef, ...])
