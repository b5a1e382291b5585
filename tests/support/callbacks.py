"""A receiver of callbacks, in threads of the test's own process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message

from tests.support.post_receiver import receiving_posts


@dataclass
class Callbacks:
    url: str
    # The bodies of every callback, by its webhook-id, which is that of its task.
    bodies: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    traceparents: dict[str, str | None] = field(default_factory=dict)


@contextmanager
def receiving(address: str = "127.0.0.1") -> Iterator[Callbacks]:
    """Take all callbacks that are sent to the receiver's address, and answer 200."""

    def take(path: str, headers: Message, body: bytes) -> None:
        callbacks.traceparents[headers["webhook-id"]] = headers["traceparent"]
        callbacks.bodies[headers["webhook-id"]].append(body)

    with receiving_posts(take, address) as url:
        callbacks = Callbacks(f"{url}/")
        yield callbacks
