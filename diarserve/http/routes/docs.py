"""The docs page: Swagger UI, from a package's files. Nothing on it comes from elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from aiohttp import web

from diarserve.http.openapi.describe import Answer, describe

routes = web.RouteTableDef()

FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>diarserve</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
</head>
<body>
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = 'SwaggerUIBundle({ url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null })\n'

_HEADERS = {
    # Swagger UI draws its icons from data: images, and asks this server alone.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",  # to be asked for again, which is answered 304
}


@routes.get("/docs")
@describe("This document, to be read", {200: Answer("The page.", other={"text/html": str})}, needs=None)
async def page(request: web.Request) -> web.Response:
    return web.Response(text=_PAGE, content_type="text/html", headers=_HEADERS)


@routes.get("/docs/start.js")
@describe("The page's script", {200: Answer("It.", other={"text/javascript": str})}, needs=None)
async def start(request: web.Request) -> web.Response:
    return web.Response(text=_START, content_type="text/javascript", headers=_HEADERS)


@routes.get("/docs/{file}")
@describe(
    "The page's other files",
    {
        200: Answer("The file.", other={"text/javascript": str, "text/css": str, "image/png": str}),
        206: Answer("The range of it that was asked for."),
        304: Answer("It has not changed."),
        412: Answer("It has changed."),
        416: Answer("It has no such range."),
    },
    errors=[404],
    needs=None,
)
async def file(request: web.Request) -> web.FileResponse:
    name = request.match_info["file"]
    if name not in FILES:  # so that no other path is ever made of it
        raise web.HTTPNotFound
    return web.FileResponse(folder() / name, headers=_HEADERS)


@cache
def folder() -> Path:
    """Where the installed package keeps its one version of Swagger UI; its name carries the version."""
    spec = find_spec("swagger_ui_bundle")
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise ModuleNotFoundError("the docs page needs the package swagger-ui-bundle-v2")
    [found] = Path(places[0], "vendor").glob("swagger-ui-*")
    return found
