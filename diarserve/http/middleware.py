"""What happens around every request: it gets an id, errors become answers, answers are counted."""

from __future__ import annotations

import errno
import logging
import math
import time
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from diarserve.core import descriptors
from diarserve.core.errors import ErrorCode, NotReady, ServiceError, StorageFull
from diarserve.http.asr import errors as asr_errors
from diarserve.http.client_address import client_address
from diarserve.http.context import REQUESTS, SERVICE
from diarserve.http.deepgram import errors as deepgram_errors
from diarserve.http.openai import errors as openai_errors
from diarserve.http.request_id import request_id
from diarserve.http.responses import json
from diarserve.http.security_headers import SECURITY_HEADERS
from diarserve.observe import labels, tracing
from diarserve.observe.metrics import Metrics
from diarserve.tasks.store.protocol import StoreError, StoreUnreachable
from workers.runtime.logs import log_context

log = logging.getLogger(__name__)

_GONE = 499  # nginx's code for a client that was gone before its answer
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HTTP_CODES: Mapping[int, ErrorCode] = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the request in the log."""
    with log_context(request=request_id(request)):
        return await handler(request)


async def show_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """A signal: streams have sent their headers before a middleware sees them."""
    response.headers["X-Request-ID"] = request_id(request)


@web.middleware
async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "unmatched"  # never the raw path: labels must stay few
    metrics, began, status = request.app[SERVICE].metrics, time.monotonic(), _GONE
    try:
        response = await handler(request)
        status = response.status
        return response
    except web.HTTPException as redirection:
        status = redirection.status
        raise
    finally:
        metrics.requests.labels(route, labels.method(request.method), status).inc()
        metrics.request_seconds.labels(route, labels.status_class(status)).observe(time.monotonic() - began)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ServiceError as error:
        return error_response(request, error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        shown = ServiceError(f"{error.reason}: {request.method} {request.path}"[:300])
        shown.status, shown.code = error.status, _HTTP_CODES.get(error.status, "http_error")
        return error_response(request, shown, dict(error.headers) if error.status == 405 else None)
    except ConnectionError:  # the client went away in the middle of its upload
        raise
    except Exception as error:
        if isinstance(error, StoreUnreachable):
            log.error("%s %s: %s", request.method, request.path, error)
            shown = NotReady("The task store cannot be reached; try again later.", retry_after=5)
            return error_response(request, shown)
        if isinstance(error, StoreError) or (isinstance(error, OSError) and error.errno in _FULL):
            log.exception("%s %s cannot be stored", request.method, request.path)
            return error_response(
                request, StorageFull("The server's disk takes no more; try again later.", retry_after=60)
            )
        if descriptors.are_short(error):
            log.error("%s %s is refused: %s", request.method, request.path, error)
            return error_response(request, NotReady("The server has too much open; try again later.", retry_after=5))
        log.exception("%s %s failed", request.method, request.path)
        return error_response(request, ServiceError("The server failed on this request; its log says why."))


@web.middleware
async def limit_client(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Raises Busy where one client waits for too many answers already."""
    with request.app[REQUESTS].one(client_address(request)):
        return await handler(request)


def error_response(request: web.Request, error: ServiceError, headers: dict[str, str] | None = None) -> web.Response:
    if request.writer.output_size:
        # A stream has begun. The client would take an error written now for a part of it, so the connection is closed.
        raise ConnectionAbortedError(error.message)
    headers = {"Allow": headers["Allow"]} if headers and "Allow" in headers else {}
    return refusal(error, request, request.app[SERVICE].metrics, headers)


def refusal(
    error: ServiceError, request: web.BaseRequest, metrics: Metrics, headers: Mapping[str, str] | None = None
) -> web.Response:
    """The answer for an error in the shape that clients of this path expect, counted."""
    metrics.rejects.labels(error.code).inc()
    if span := tracing.current():  # by OpenTelemetry's conventions, a client's mistake is no error of the server's span
        span.fail(error.code) if error.status >= 500 else span.annotate({"error.type": error.code})
    log.log(logging.INFO if error.status < 500 else logging.WARNING, "answered %d %s", error.status, error.code)
    headers = {"X-Request-ID": request_id(request), **SECURITY_HEADERS, **(headers or {})}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if error.status == 426:
        headers["Upgrade"] = "websocket"  # RFC 9110, 15.5.22
    return json(_body(error, request), error.status, headers)


def _body(error: ServiceError, request: web.BaseRequest) -> object:
    if request.path == deepgram_errors.PATH:
        return deepgram_errors.body(error, request_id(request))
    if request.path in asr_errors.PATHS:
        return asr_errors.body(error)
    return openai_errors.body(error) if request.path.startswith("/v1/") else error.body()
