"""What a load may be: a server on this machine's loopback, so many users, so long."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

USERS, SECONDS = 64, 600  # at most


def refusal(host: str | None, users: int | None, seconds: float | None) -> str | None:
    """Why this load is not made; None where it is. host: the server's URL.

    >>> refusal("http://192.0.2.1:8000", 4, 60)
    'http://192.0.2.1:8000 is not an address of the loopback interface'
    """
    if not host or not _is_loopback(host):
        return f"{host} is not an address of the loopback interface"
    if not users or not 1 <= users <= USERS:
        return f"the number of users must be from 1 to {USERS}"
    if not seconds or not 1 <= seconds <= SECONDS:
        return f"the load must last from 1 to {SECONDS} seconds"
    return None


def _is_loopback(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
