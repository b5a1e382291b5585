"""By which names a server may be asked.

A web page whose own name its author makes resolve to 127.0.0.1 (DNS rebinding) is of the same origin as a server on
loopback, for its visitor's browser. It cannot hide its name, though: that is in the Host field.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there.

    >>> [is_loopback(host) for host in ("127.0.0.2", "::1", "localhost", "0.0.0.0", "", "example.org")]
    [True, True, True, False, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def name_of(authority: str) -> str:
    """Without the port, in lower case.

    >>> name_of("Example.org.:8000"), name_of("[::1]:8000"), name_of("::1")
    ('example.org', '::1', '::1')
    """
    authority = authority.strip().lower()
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    name = authority if authority.count(":") > 1 else authority.partition(":")[0]
    return name.removesuffix(".")


def is_expected(authority: str, names: Iterable[str]) -> bool:
    """Whether a Host field names this machine's loopback, or one of the names."""
    name = name_of(authority)
    return is_loopback(name) or name in names
