"""Telling clients that a task has ended: POST to their callback_url, signed, until it is taken or a day has passed.

Every callback is delivered on its own, so that an address that never answers delays nobody else's. Redirects are not
followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from contextlib import AbstractContextManager

import aiohttp
import orjson
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from diarserve.core.task_settings import Webhooks as Settings
from diarserve.observe import tracing
from diarserve.observe.metrics import Metrics
from diarserve.observe.tracing import Attributes, Span, Tracer
from diarserve.tasks import signing
from diarserve.tasks.public_address import PrivateAddress, PublicResolver, require_public_host
from diarserve.tasks.store.protocol import Callback, Store, StoreError
from diarserve.tasks.views import status_of

log = logging.getLogger(__name__)

_POLL = 5.0  # seconds between looks for callbacks that are due again
_FIRST_PAUSE = 2.0  # seconds before the second attempt; doubled every time ...
_LONGEST_PAUSE = 3600.0  # ... up to this
_MARGIN = 30.0  # seconds beyond a call's timeout, after which another server makes it
_AT_ONCE = 64  # callbacks being delivered
_PER_ORIGIN = 4  # ... to one origin (scheme, host and port); 1 to one whose last delivery failed

_REMEMBERED = 10_000  # failing origins

_GONE = 410  # the receiver wants no more of them: https://www.standardwebhooks.com


def next_attempt(ended: float, made: int, now: float, *, retry_seconds: float, jitter: float) -> float | None:
    """When to try again what has failed `made` times; None when it is given up. Times are unix seconds.

    The pause doubles up to an hour, half of it to one and a half of it by `jitter` (0 to 1), so that what failed
    together does not come back together. `retry_seconds` are counted from the task's end.
    """
    pause = min(_FIRST_PAUSE * 2.0 ** min(made - 1, 20), _LONGEST_PAUSE) * (0.5 + jitter)
    return now + pause if now + pause <= ended + retry_seconds else None


class Webhooks:
    def __init__(self, store: Store, settings: Settings, metrics: Metrics, tracer: Tracer | None) -> None:
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._tracer = tracer
        self._wake = asyncio.Event()
        self._delivering: set[str] = set()  # ids of tasks
        self._per_origin: Counter[str] = Counter()
        self._failing: set[str] = set()  # origins whose last delivery failed

    def wake(self) -> None:
        """A task has ended."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver callbacks as they become due, until cancelled."""
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout)
        resolver = ThreadedResolver() if self._settings.allow_private else PublicResolver()
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                while callbacks := await self._next():
                    for callback in callbacks:
                        group.create_task(self._deliver(session, callback))
                with contextlib.suppress(TimeoutError):
                    # Not wait_for: in Python 3.11 it loses a cancellation that comes along with what it waits for.
                    async with asyncio.timeout(_POLL):
                        await self._wake.wait()

    async def _next(self) -> list[Callback]:
        """Callbacks to begin with now, marked as being delivered."""
        room = _AT_ONCE - len(self._delivering)
        if room <= 0:
            return []
        busy = [origin for origin, count in self._per_origin.items() if count >= self._limit(origin)]
        begun: dict[str, Callback] = {}
        counted = self._per_origin.copy()
        for callback in await self._store.due_callbacks(time.time(), _AT_ONCE, except_origins=busy):
            id, origin = callback.task.id, callback.origin
            free = id not in self._delivering and counted[origin] < self._limit(origin)
            if free and len(begun) < room:
                counted[origin] += 1
                begun[id] = callback
        if not begun:
            return []
        taken = await self._store.take_callbacks(begun, time.time() + self._settings.timeout + _MARGIN)
        callbacks = [callback for id, callback in begun.items() if id in taken]
        self._delivering.update(taken)
        self._per_origin.update(callback.origin for callback in callbacks)
        return callbacks

    def _limit(self, origin: str) -> int:
        return 1 if origin in self._failing else _PER_ORIGIN

    async def _deliver(self, session: aiohttp.ClientSession, callback: Callback) -> None:
        try:
            await self._attempt(session, callback)
        except StoreError:
            log.exception("the outcome of a callback cannot be written; it is made again")
            await asyncio.sleep(_POLL)
        finally:
            self._delivering.discard(callback.task.id)
            self._per_origin[callback.origin] -= 1
            self._per_origin += Counter()  # drops those at 0
            self._wake.set()

    async def _attempt(self, session: aiohttp.ClientSession, callback: Callback) -> None:
        task, made = callback.task, callback.attempts + 1
        try:
            with self._span(callback):
                await self._post(session, callback)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            log.warning("callback %d of task %s failed: %s", made, task.id, error or type(error).__name__)
            if len(self._failing) >= _REMEMBERED:
                self._failing.clear()
            self._failing.add(callback.origin)
            next_at = None if _is_final(error) else self._next_attempt(callback)
            self._metrics.webhooks.labels("failed" if next_at else "given_up").inc()
            await self._store.callback_failed(task.id, next_at)
        else:
            self._failing.discard(callback.origin)
            self._metrics.webhooks.labels("sent").inc()
            await self._store.callback_sent(task.id)

    def _span(self, callback: Callback) -> AbstractContextManager[Span | None]:
        """In the trace of the request that the task was submitted by."""
        if self._tracer is None:
            return contextlib.nullcontext()
        task, made = callback.task, callback.attempts + 1
        about: Attributes = {
            "diarserve.task.id": task.id,
            "diarserve.attempts": made,
            "diarserve.callback.origin": callback.origin,  # the rest of the address may hold a secret
        }
        carrier = {"traceparent": task.traceparent}
        return tracing.inside(self._tracer.begin("webhook", carrier=carrier, kind="client", attributes=about))

    async def _post(self, session: aiohttp.ClientSession, callback: Callback) -> None:
        """Raises aiohttp's errors, OSError, TimeoutError and ValueError, and for an answer that is not 2xx
        ClientResponseError."""
        task = callback.task
        url = URL(task.callback_url or "")
        if not self._settings.allow_private:
            require_public_host(url)
        body = orjson.dumps({"event": f"task.{task.status}", **status_of(task)})
        signed = signing.headers(self._settings.secret, task.id, body, time.time())
        headers = {"Content-Type": "application/json", **signed}
        if span := tracing.current():
            headers["traceparent"] = span.traceparent
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
            if span:
                span.annotate({"http.response.status_code": answer.status})
            if answer.status >= 300:
                raise aiohttp.ClientResponseError(answer.request_info, (), status=answer.status, message="refused")

    def _next_attempt(self, callback: Callback) -> float | None:
        now = time.time()
        return next_attempt(
            callback.task.finished_at or now,
            callback.attempts + 1,
            now,
            retry_seconds=self._settings.retry_hours * 3600,
            jitter=random.random(),
        )


def _is_final(error: Exception) -> bool:
    """Whether no other attempt can end better."""
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status == _GONE
    return isinstance(getattr(error, "os_error", error), PrivateAddress)  # aiohttp wraps what the resolver raises
