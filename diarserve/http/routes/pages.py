"""The page for people, and what it is made of: files of this package. Nothing on it comes from elsewhere, and its
addresses are relative, so that it works behind a path prefix."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from aiohttp import web

import diarserve.http.web
from diarserve.http.openapi.describe import Answer, describe

routes = web.RouteTableDef()

_HEADERS = {
    # blob: is the recording that the user has chosen, which the browser plays.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; "
    "img-src 'self'; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-cache",  # to be asked for again, which is answered 304
}
_HTML = Answer("The page.", other={"text/html": str})
_RANGES = {
    206: Answer("The range of it that was asked for."),
    304: Answer("It has not changed."),
    412: Answer("It has changed."),
    416: Answer("It has no such range."),
}


@routes.get("/")
@describe("The page: recordings, transcripts, live audio", {200: _HTML, **_RANGES}, needs=None)
async def index(request: web.Request) -> web.FileResponse:
    return web.FileResponse(folder() / "index.html", headers=_HEADERS)


@routes.get("/status")
@describe("The operator's page: queues and workers", {200: _HTML, **_RANGES}, needs=None)
async def status(request: web.Request) -> web.FileResponse:
    return web.FileResponse(folder() / "status.html", headers=_HEADERS)


@routes.get("/web/{file}")
@describe(
    "The pages' other files",
    {
        200: Answer("The file.", other={"text/javascript": str, "text/css": str, "image/svg+xml": str}),
        **_RANGES,
    },
    errors=[404],
    needs=None,
)
async def file(request: web.Request) -> web.FileResponse:
    name = request.match_info["file"]
    if name not in files():  # so that no other path is ever made of it
        raise web.HTTPNotFound
    return web.FileResponse(folder() / name, headers=_HEADERS)


def folder() -> Path:
    return Path(diarserve.http.web.__file__).parent


@cache
def files() -> frozenset[str]:
    """The names of all that may be served, apart from the pages."""
    return frozenset(path.name for path in folder().iterdir() if path.suffix in (".js", ".css", ".svg"))
