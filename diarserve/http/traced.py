"""A middleware that makes a span of every request, in its client's trace where it names one (W3C Trace Context)."""

from __future__ import annotations

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from diarserve.http.context import SERVICE
from diarserve.http.request_id import request_id
from diarserve.observe import tracing

# Asked every few seconds by what watches the server: they would be most of all traces.
_PROBES = ("/livez", "/readyz", "/metrics", "/stats")


@web.middleware
async def trace(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Only where traces are on. Outside of what turns errors into answers: it sees every status."""
    tracer, resource = request.app[SERVICE].tracer, request.match_info.route.resource
    if tracer is None or request.path in _PROBES:
        return await handler(request)
    route = resource.canonical if resource else "unmatched"
    method = request.method if request.method in hdrs.METH_ALL else "_OTHER"
    # https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span
    attributes = {
        "http.request.method": method,
        "http.route": route,
        "url.path": request.path,
        "url.scheme": request.scheme,
        "diarserve.request.id": request_id(request),
    }
    span = tracer.begin(f"{method} {route}", carrier=request.headers, kind="server", attributes=attributes)
    with tracing.inside(span):
        response = await handler(request)
        span.annotate({"http.response.status_code": response.status})
        return response
