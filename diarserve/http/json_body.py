"""A request's JSON body, decoded as a type."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from diarserve.core.errors import InvalidRequest, TooLarge
from diarserve.core.settings import Limits
from diarserve.http import pace

_LARGEST = 256 * 1024  # bytes

T = TypeVar("T")


async def json_body(request: web.Request, type: type[T], limits: Limits) -> T:
    """Raises ServiceError: what is wrong, and where in the body."""
    body = bytearray()
    async with pace.expected(request, limits):
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > _LARGEST:
                raise TooLarge(f"The body is longer than {_LARGEST // 1024} KiB.")
    try:
        return msgspec.json.decode(body, type=type)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not what is expected: {error}."[:500]) from error
