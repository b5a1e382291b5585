"""A middleware that compresses answers for clients that take gzip (RFC 9110, 12.5.3)."""

from __future__ import annotations

import gzip

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from diarserve.core.offload import offload

_LEAST = 8 * 1024  # bytes: fewer gain less than a packet
_LARGE = 64 * 1024  # bytes from which it is done in a thread: they take 0.3 ms
_LEVEL = 1  # 7 MB of a long transcript's JSON become a fifth in 40 ms; at level 6 a seventh, in 100 ms

_KINDS = ("application/json", "application/x-subrip")  # and all text


@web.middleware
async def compress(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whole bodies only: the events of a stream must not wait for others."""
    response = await handler(request)
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes) or len(response.body) < _LEAST:
        return response
    if hdrs.CONTENT_ENCODING in response.headers or not _compressible(response.content_type):
        return response
    response.headers.add(hdrs.VARY, hdrs.ACCEPT_ENCODING)
    if takes_gzip(", ".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ()))):
        body = response.body
        response.body = await offload(len(body) >= _LARGE, gzip.compress, body, _LEVEL, mtime=0)
        response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    return response


def takes_gzip(accepted: str) -> bool:
    """Whether a client that sends this Accept-Encoding takes gzip.

    >>> takes_gzip("gzip;q=0, *")
    False
    """
    weights: dict[str, bool] = {}
    for one in accepted.lower().split(","):
        coding, _, weight = one.partition(";")
        weights[coding.strip()] = weight.replace(" ", "").rstrip("0.") != "q="
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", False)))


def _compressible(content_type: str) -> bool:
    return content_type in _KINDS or content_type.startswith("text/")
