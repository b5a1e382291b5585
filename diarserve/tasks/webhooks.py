"""Telling clients that a task has ended: POST to their callback_url, signed, again and again until it is taken.

Addresses come from clients, so the names in them are resolved here and nothing private is called: what the resolver
found is what gets connected to, which leaves no moment in which a name could change its meaning. Redirects are not
followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import logging
import socket
import time

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from diarserve.core.settings import Webhooks as Settings
from diarserve.observe.metrics import Metrics
from diarserve.tasks.store.protocol import Callback, Store
from diarserve.tasks.views import status_of

log = logging.getLogger(__name__)

_POLL = 5.0  # seconds between looks for calls that are due again
_FIRST_PAUSE = 2.0  # seconds before the second attempt; doubled every time
_AT_ONCE = 20

# IPv6 addresses whose last 32 bits are the IPv4 address that is meant: compatible, mapped, NAT64.
_CARRIERS = [ipaddress.IPv6Network(network) for network in ("::/96", "::ffff:0:0/96", "64:ff9b::/96")]


class Webhooks:
    def __init__(self, store: Store, settings: Settings, metrics: Metrics) -> None:
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._due = asyncio.Event()

    def wake(self) -> None:
        """A task has ended."""
        self._due.set()

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout)
        resolver = ThreadedResolver() if self._settings.allow_private else PublicResolver()
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while True:
                self._due.clear()
                while due := await self._store.due_callbacks(time.time(), _AT_ONCE):
                    await asyncio.gather(*(self._call(session, callback) for callback in due))
                with contextlib.suppress(TimeoutError):
                    # Not wait_for: in Python 3.11 it loses a cancellation that comes along with what it waits for.
                    async with asyncio.timeout(_POLL):
                        await self._due.wait()

    async def _call(self, session: aiohttp.ClientSession, callback: Callback) -> None:
        task = callback.task
        assert task.callback_url is not None
        body = orjson.dumps({"event": f"task.{task.status}", **status_of(task)})
        try:
            self._require_public(URL(task.callback_url))  # a host that is an address never reaches the resolver
            headers = {"Content-Type": "application/json", **signature(self._settings.secret, body)}
            async with session.post(task.callback_url, data=body, headers=headers, allow_redirects=False) as answer:
                if answer.status >= 300:
                    raise aiohttp.ClientError(f"it answered {answer.status}")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            made = callback.attempts + 1
            private = isinstance(getattr(error, "os_error", error), PrivateAddress)  # aiohttp wraps the resolver's
            again = made < self._settings.attempts and not private
            log.warning("callback %d of task %s failed: %s", made, task.id, error)
            self._metrics.webhooks.labels("failed").inc()
            await self._store.callback_failed(
                task.id, time.time() + _FIRST_PAUSE * 2**callback.attempts if again else None
            )
        else:
            self._metrics.webhooks.labels("sent").inc()
            await self._store.callback_sent(task.id)

    def _require_public(self, url: URL) -> None:
        if not self._settings.allow_private and url.host:
            with contextlib.suppress(ValueError):
                require_public(ipaddress.ip_address(url.host).compressed)


class PrivateAddress(OSError):
    pass


class PublicResolver(AbstractResolver):
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


def signature(secret: str, body: bytes) -> dict[str, str]:
    """`X-Diarserve-Signature: t=<unix seconds>,v1=<hex>` with v1 the HMAC-SHA256 of "<t>.<body>"."""
    if not secret:
        return {}
    moment = str(int(time.time()))
    digest = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-Diarserve-Signature": f"t={moment},v1={digest}"}
