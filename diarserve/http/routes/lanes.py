"""How many workers a lane has, for those who operate the service (diarserve/pool/scaling.py)."""

from __future__ import annotations

import msgspec
from aiohttp import web

from diarserve.core.errors import InvalidRequest, NotFound
from diarserve.core.settings import MAX_WORKERS
from diarserve.http.context import SERVICE
from diarserve.http.openapi.describe import Answer, Parameter, describe
from diarserve.http.responses import json
from diarserve.http.routes.operations import LaneStats
from diarserve.pool.scaling import Bounds

routes = web.RouteTableDef()

_FORMS = f'a number from 0 to {MAX_WORKERS}, two as "1-4", or "auto"'


@routes.post("/api/v1/parallel/lanes/{lane}/scale")
@describe(
    "Say how many workers a lane has",
    {200: Answer("The lane. Workers that are to go finish their jobs first.", LaneStats)},
    errors=[400, 404],
    parameters=[
        Parameter(
            "workers",
            text="How many there are to be: `3`. Or between how many it is scaled: `1-4`. Or as configured: `auto`. "
            "`0` ends all once their jobs are done; the next job starts one. It holds until the server ends.",
        )
    ],
)
async def scale(request: web.Request) -> web.Response:
    service, name = request.app[SERVICE], request.match_info["lane"]
    bounds = _bounds(request.query.get("workers", ""))
    try:
        lane = service.scale(name, bounds)
    except KeyError:
        there = ", ".join(lane.name for lane in service.lanes)
        raise NotFound(f"There is no lane {name!r}; there is: {there}.") from None
    return json(msgspec.convert(lane, LaneStats))


def _bounds(text: str) -> Bounds | int | None:
    """Raises InvalidRequest."""
    if text == "auto":
        return None
    low, dash, high = text.partition("-")
    numbers = [int(part) for part in (low, high if dash else low) if part.isascii() and part.isdecimal()]
    if len(numbers) != 2 or not numbers[0] <= numbers[1] <= MAX_WORKERS or (dash and numbers[1] == 0):
        raise InvalidRequest(f"workers must be {_FORMS}.", param="workers")
    return Bounds(*numbers) if dash else numbers[0]
