"""Who a request comes from: the other end of its connection, or whom a trusted proxy names.

X-Forwarded-For and X-Forwarded-Proto are believed from the networks in `[access] trusted_proxies` alone; from anybody
else they are a claim of the client's own (https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/X-Forwarded-For).
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from aiohttp import web
from pydantic import IPvAnyNetwork

from diarserve.core.settings import Access
from diarserve.http.context import SERVICE


def client_address(request: web.Request) -> str:
    """The client's IP address; empty where the connection has none (a Unix socket, or it is closed)."""
    proxies = _proxies(request)
    address = _peer(request)
    if not proxies or not _is_within(address, proxies):
        return address
    # Each proxy appends whom it was asked by, so the list is read from its end, to the first that is no proxy of ours.
    hops = [hop.strip() for line in request.headers.getall("X-Forwarded-For", ()) for hop in line.split(",")]
    for hop in reversed(hops):
        if not (named := _parsed(hop)):
            break
        address = named
        if not _is_within(address, proxies):
            break
    return address


def is_trusted_proxy(address: str, access: Access) -> bool:
    """Whether that other end of a connection speaks for many clients."""
    return _is_within(_parsed(address), access.trusted_proxies)


def client_scheme(request: web.Request) -> str:
    """http or https, as the client sees this server."""
    proxies = _proxies(request)
    if proxies and _is_within(_peer(request), proxies):
        named = request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip().lower()
        if named in ("http", "https"):
            return named
    return request.scheme


def _proxies(request: web.Request) -> Sequence[IPvAnyNetwork]:
    return request.app[SERVICE].settings.access.trusted_proxies


def _peer(request: web.Request) -> str:
    return _parsed(request.remote or "")


def _parsed(text: str) -> str:
    """The address in its usual form, without a port; empty for what is none.

    >>> _parsed("[::1]:80"), _parsed("::ffff:10.0.0.1"), _parsed("10.0.0.1:80"), _parsed("unknown")
    ('::1', '10.0.0.1', '10.0.0.1', '')
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _is_within(address: str, networks: Sequence[IPvAnyNetwork]) -> bool:
    return bool(address) and any(ip_address(address) in network for network in networks)
