"""Who is let in: a middleware before every handler, and the fields of every answer that browsers obey."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import zip_longest

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from diarserve.access import hosts
from diarserve.access.roles import allows
from diarserve.core.errors import Forbidden, Misdirected, Unauthorized
from diarserve.http.client_address import client_scheme
from diarserve.http.context import GATE, SERVICE
from diarserve.http.gate import Client, Gate
from diarserve.http.openapi.describe import Operation
from diarserve.http.security_headers import SECURITY_HEADERS

_CLIENT = web.RequestKey("client", Client)
_OPENAI_KEY = "openai-insecure-api-key."
_SAFE = ("GET", "HEAD", "OPTIONS")

_EXPOSED = "Content-Disposition, Location, Retry-After, WWW-Authenticate, X-Request-ID"


def client(request: web.Request) -> Client:
    """Who asks, as `guard` has found."""
    return request[_CLIENT]


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Raises Misdirected, Forbidden, Unauthorized and RateLimited."""
    gate = request.app[GATE]
    if gate.checks_host:
        _require_host(request, gate)
    if _is_preflight(request, gate):
        return _preflight(request)
    request[_CLIENT] = found = _identified(request, gate)
    if found.key:
        request.app[SERVICE].metrics.count_key(found.key.name)
    with gate.limits.request(found.key) if found.key else nullcontext():
        return await handler(request)


def is_still_known(request: web.Request) -> bool:
    """Whether the key that was let in may do this even now: a stream outlives the revocation of its key."""
    try:
        _identified(request, request.app[GATE])
    except (Forbidden, Unauthorized):
        return False
    return True


def require_still_known(request: web.Request) -> None:
    """Before what a request has sent is kept: sending it takes time, and what a revoked key had may be deleted by now.
    Raises Unauthorized and Forbidden."""
    _identified(request, request.app[GATE])


def _require_host(request: web.Request, gate: Gate) -> None:
    # None, as HTTP/1.0 allows, is sent by no browser.
    for host in request.headers.getall("Host", ()):
        if not hosts.is_expected(host, gate.names) and hosts.name_of(host) != _own_address(request):
            raise Misdirected(
                f"This server is not called {hosts.name_of(host)[:100]!r}. If it is, add the name to [access] hosts."
            )


def _own_address(request: web.Request) -> str:
    """The address that this connection came to: a name made to resolve to it cannot be it."""
    name = request.transport.get_extra_info("sockname") if request.transport else None
    return str(name[0]) if isinstance(name, tuple) else ""


def _identified(request: web.Request, gate: Gate) -> Client:
    operation = getattr(request.match_info.handler, "__operation__", None)
    scope = operation.needs if isinstance(operation, Operation) else "read"  # of what does not exist: any key
    if not gate.keyed:
        if request.method not in _SAFE or hdrs.UPGRADE in request.headers:  # browsers open WebSockets to anybody
            _require_own_page(request, gate)
        found = gate.anonymous
    elif scope is None:
        return gate.anonymous
    else:
        found = _with_key(request, gate)
    if scope and isinstance(operation, Operation) and not allows(found.role, scope):
        raise Forbidden(f"A key of the role {found.role!r} may not do this: it needs one that may {scope!r}.")
    return found


def _with_key(request: web.Request, gate: Gate) -> Client:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() not in ("bearer", "token"):
        secret = request.headers.get("X-API-Key", "") or _among_protocols(request)
    if not secret:
        raise Unauthorized("An access key is needed: send `Authorization: Bearer dsk_...` or `X-API-Key: dsk_...`.")
    found = gate.find(secret.strip())
    if found is None:
        raise Unauthorized("This access key is not known here, or was revoked.")
    return found


def _among_protocols(request: web.Request) -> str:
    """The key of a WebSocket that a browser opens, which can send no other field: as OpenAI has it,
    `openai-insecure-api-key.KEY`, or as Deepgram, `token, KEY`. Empty where there is none."""
    offered = offered_protocols(request)
    for name, following in zip_longest(offered, offered[1:], fillvalue=""):
        if name.lower() in ("token", "bearer"):
            return following
        if name.startswith(_OPENAI_KEY):
            return name.removeprefix(_OPENAI_KEY)
    return ""


def offered_protocols(request: web.Request) -> list[str]:
    """The subprotocols of a WebSocket that the client offers."""
    return [
        name.strip()
        for line in request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ())
        for name in line.split(",")
        if name.strip()
    ]


def _require_own_page(request: web.Request, gate: Gate) -> None:
    """Without keys, whatever web page is open in a browser on this machine could send a form here."""
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if origin is not None and origin.lower() in gate.origins:
        return
    if site is None:  # no browser, or an old one, which still says of which page it is
        own = f"{client_scheme(request)}://{request.headers.get('Host', '')}"
        foreign = origin is not None and origin.lower() != own.lower()
    else:
        foreign = site not in ("same-origin", "none")
    if foreign:
        raise Forbidden(
            "A web page of another server asks this, and there are no access keys. If it may, add its origin "
            f"to [access] origins: {(origin or 'unknown')[:100]!r}."
        )


def _is_preflight(request: web.Request, gate: Gate) -> bool:
    return (
        request.method == "OPTIONS"
        and "Access-Control-Request-Method" in request.headers
        and request.headers.get("Origin", "").lower() in gate.origins
    )


def _preflight(request: web.Request) -> web.Response:
    """https://fetch.spec.whatwg.org/#cors-preflight-request. Any field may be sent: cookies mean nothing here."""
    headers = {
        "Access-Control-Allow-Methods": "GET, HEAD, POST, PATCH, DELETE",
        "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", ""),
        "Access-Control-Max-Age": "600",
    }
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    return web.Response(status=204, headers=headers)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """A signal: streams have sent their headers before a middleware sees them."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    if response.status == 401:
        response.headers.setdefault("WWW-Authenticate", 'Bearer realm="diarserve"')
    if origins := request.app[GATE].origins:
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin", "")
        if origin.lower() in origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED
