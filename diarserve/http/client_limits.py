"""How much one client may hold at a time, so that it does not take every place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address

from diarserve.core.errors import Busy

_RETRY_AFTER = 1.0  # seconds
_NETWORK = 64  # bits: what a provider gives to one customer, who may use any address of it


class ClientLimit:
    """most: of whatever is counted, for each client. what: its name in the refusal."""

    def __init__(self, most: int, what: str) -> None:
        self.most = most
        self._what = what
        self._held = Counter[str]()

    def take(self, address: str) -> int:
        """One more; returns how many that makes."""
        client = client_of(address)
        self._held[client] += 1
        return self._held[client]

    def give_back(self, address: str) -> None:
        client = client_of(address)
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]

    @contextmanager
    def one(self, address: str) -> Iterator[None]:
        """Raises Busy where the client has so many already. No limit where it has no address (a Unix socket)."""
        try:
            if self.take(address) > self.most and address:
                raise self.refusal()
            yield
        finally:
            self.give_back(address)

    def refusal(self) -> Busy:
        message = f"Your address has {self.most} {self._what} under way, as many as it may; try again later."
        return Busy(message, retry_after=_RETRY_AFTER)


def client_of(address: str) -> str:
    """IPv6 addresses of one network are one client.

    >>> client_of("192.0.2.1"), client_of("2001:db8::1") == client_of("2001:db8::2")
    ('192.0.2.1', True)
    """
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(int(parsed) >> (128 - _NETWORK)) if isinstance(parsed, IPv6Address) else address
