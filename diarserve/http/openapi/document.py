"""The OpenAPI 3.1 document: every endpoint, with all that it takes and all that it may answer."""

from __future__ import annotations

from functools import cache
from typing import Any

from aiohttp import web

from diarserve import __version__
from diarserve.http.openapi.paths import paths, problems
from diarserve.http.openapi.schemas import SCHEMAS
from diarserve.http.responses import json

routes = web.RouteTableDef()

_ABOUT = """Who said what: transcripts in which every word has a speaker.

Paths that are not listed answer 404, methods that are not listed 405 with `Allow`."""


@routes.get("/openapi.json")
async def openapi(request: web.Request) -> web.Response:
    return json(document())


@cache
def document() -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {"title": "diarserve", "version": __version__, "description": _ABOUT},
        "tags": [
            {"name": "transcripts", "description": "The client waits for the answer."},
            {"name": "tasks", "description": "The client comes back for the answer; tasks survive a restart."},
            {"name": "OpenAI", "description": "For clients of OpenAI's audio endpoints."},
            {"name": "operation", "description": "What the server can do, and how it is."},
        ],
        "paths": paths(),
        "components": {"schemas": SCHEMAS, "responses": problems()},
    }
