"""The tests' own process connects to loopback addresses alone, and asks no name server."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LOCAL_NAMES = (None, "", "localhost", "::")
refused: list[str] = []  # since `required` began


class LeavesTheMachine(ConnectionError):
    pass


@contextmanager
def required() -> Iterator[None]:
    """Fails where the block tried to reach another machine, also if what it called took the refusal for a network
    that is down."""
    refused.clear()
    yield
    assert not refused, f"a test tried to reach {', '.join(refused)}"


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    match event, arguments:
        case ("socket.connect", (_, (str(host), *_))) if not _is_loopback(host):
            _refuse(host)
        case ("socket.sendto", (_, (str(host), *_))) if not _is_loopback(host):
            _refuse(host)
        case ("socket.getaddrinfo" | "socket.gethostbyname", (host, *_)) if not _is_local_name(host):
            _refuse(str(host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def _is_local_name(host: object) -> bool:
    """Addresses too: looking one up asks nobody."""
    text = host.decode() if isinstance(host, bytes) else host
    if text in _LOCAL_NAMES:
        return True
    try:
        ipaddress.ip_address(str(text).partition("%")[0])
    except ValueError:
        return False
    return True


def _refuse(host: str) -> None:
    refused.append(host)
    raise LeavesTheMachine(f"a test tried to reach {host}")


sys.addaudithook(_watch)  # of this process, for as long as it runs
