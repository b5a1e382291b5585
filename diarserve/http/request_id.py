"""The id of a request: in its answer, in the log, and in the answers of protocols that have a place for it."""

from __future__ import annotations

import re
import uuid

from aiohttp import web

_REQUEST_ID = web.RequestKey("request_id", str)
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}")  # what can stand in a header and in a line of the log


def request_id(request: web.BaseRequest) -> str:
    """What the client sent as X-Request-ID, or an id of ours where that is missing or odd."""
    if _REQUEST_ID not in request:
        sent = request.headers.get("X-Request-ID", "")
        request[_REQUEST_ID] = sent if _SANE_ID.fullmatch(sent) else uuid.uuid4().hex
    return request[_REQUEST_ID]
