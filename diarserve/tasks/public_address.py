"""Callback addresses come from clients: nothing private is called.

Names are resolved here, and what the resolver found is what gets connected to, which leaves no moment in which a name
could change its meaning.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

# IPv6 addresses whose last 32 bits are the IPv4 address that is meant: compatible, mapped, NAT64.
_CARRIERS = [ipaddress.IPv6Network(network) for network in ("::/96", "::ffff:0:0/96", "64:ff9b::/96")]


class PrivateAddress(OSError):
    pass


class PublicResolver(AbstractResolver):
    """Raises PrivateAddress for a name that means a private address."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            require_public(result["host"])
        return found

    async def close(self) -> None:
        await self._resolver.close()


def require_public_host(url: URL) -> None:
    """A host that is an address never reaches the resolver. Raises PrivateAddress."""
    if url.host:
        with contextlib.suppress(ValueError):  # a name
            require_public(ipaddress.ip_address(url.host).compressed)


def require_public(address: str) -> None:
    """Raises PrivateAddress for loopback, private, link-local, multicast and reserved addresses."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if any(parsed in network for network in _CARRIERS):
            parsed = ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF)
        else:
            parsed = parsed.sixtofour or parsed
    if not parsed.is_global or parsed.is_multicast:
        raise PrivateAddress(f"{address} is not a public address")
