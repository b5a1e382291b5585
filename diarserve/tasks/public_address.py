"""Callback addresses come from clients: nothing private is called.

Names are resolved here, and what the resolver found is what gets connected to, which leaves no moment in which a name
could change its meaning.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from ipaddress import IPv4Network, IPv6Network

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

# Every block of https://www.iana.org/assignments/iana-ipv4-special-registry (as of 2025-10), those that are globally
# reachable too, since they hold services of the network itself, and multicast (RFC 5771). What `is_global` and
# `is_private` say differs among versions of Python.
_SPECIAL_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network (RFC 791)
            "10.0.0.0/8",  # private (RFC 1918)
            "100.64.0.0/10",  # shared by a carrier's customers (RFC 6598)
            "127.0.0.0/8",  # loopback (RFC 1122)
            "169.254.0.0/16",  # link-local (RFC 3927), clouds' metadata among them
            "172.16.0.0/12",  # private (RFC 1918)
            "192.0.0.0/24",  # IETF protocol assignments (RFC 6890)
            "192.0.2.0/24",  # documentation (RFC 5737)
            "192.31.196.0/24",  # AS112 (RFC 7535)
            "192.52.193.0/24",  # automatic multicast tunnelling (RFC 7450)
            "192.88.99.0/24",  # 6to4 relays, deprecated (RFC 7526)
            "192.168.0.0/16",  # private (RFC 1918)
            "192.175.48.0/24",  # AS112 (RFC 7534)
            "198.18.0.0/15",  # benchmarks (RFC 2544)
            "198.51.100.0/24",  # documentation (RFC 5737)
            "203.0.113.0/24",  # documentation (RFC 5737)
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved (RFC 1112), limited broadcast
        ),
    )
)

# Of IPv6, only this is allocated as global unicast (https://www.iana.org/assignments/ipv6-address-space); loopback,
# unique local, link-local, site-local (fec0::/10), multicast, segment routing (5f00::/16), IPv4-translated
# (::ffff:0:0:0/96) and local NAT64 (64:ff9b:1::/48) lie outside ...
_GLOBAL_IPV6 = IPv6Network("2000::/3")

# ... and these blocks of https://www.iana.org/assignments/iana-ipv6-special-registry (as of 2025-10) inside it.
_SPECIAL_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # IETF protocol assignments (RFC 2928), among them Teredo (2001::/32), which carries an IPv4
            "2001:db8::/32",  # documentation (RFC 3849)
            "2002::/16",  # 6to4 (RFC 3056), which carries an IPv4; deprecated
            "2620:4f:8000::/48",  # AS112 (RFC 7534)
            "3fff::/20",  # documentation (RFC 9637)
        ),
    )
)

# The last 32 bits are the IPv4 address that is meant: mapped (RFC 4291), NAT64 (RFC 6052). They are judged by that one.
_CARRIERS = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))


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
    """Raises PrivateAddress for every address that no public server has.

    >>> require_public("93.184.216.34")
    >>> require_public("64:ff9b::10.0.0.1")  # NAT64
    PrivateAddress: 64:ff9b::10.0.0.1 is not a public address
    """
    if not _is_public(ipaddress.ip_address(address.partition("%")[0])):
        raise PrivateAddress(f"{address} is not a public address")


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    if any(address in network for network in _CARRIERS):
        return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _GLOBAL_IPV6 and not any(address in network for network in _SPECIAL_IPV6)
