"""The service's present state, as /stats, /readyz and the gauges show it."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from diarserve.keys import LANES, SPOOL, TASKS


def lanes_state(app: web.Application) -> dict[str, dict[str, Any]]:
    return {lane.name: lane.state() for lane in app[LANES]}


def state(app: web.Application) -> dict[str, Any]:
    spool_bytes = sum(file.stat().st_size for file in app[SPOOL].glob("*/*"))
    return {"in_flight": len(app[TASKS]), "spool_bytes": spool_bytes, "lanes": lanes_state(app)}
