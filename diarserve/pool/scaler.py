"""Keeps a lane at the size that diarserve.pool.scaling decides: looks at it every second, acts, logs and counts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Protocol

from diarserve.observe.metrics import Metrics
from diarserve.pool.scaling import Bounds, Decision, Policy, Seen, decide

log = logging.getLogger(__name__)

_PERIOD = 1.0  # seconds


class Scaled(Protocol):
    """What is scaled."""

    name: str

    def seen(self) -> Seen: ...

    def resize(self, workers: int) -> None: ...


class Scaler:
    def __init__(self, lane: Scaled, bounds: Bounds, policy: Policy, metrics: Metrics) -> None:
        self.bounds = bounds
        self.policy = policy
        self.last: Decision | None = None  # that changed something, or would have
        self._lane = lane
        self._metrics = metrics
        self._short = False  # of memory, as the last decision had it
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def close(self) -> None:
        if self._task:
            self._task.cancel()

    def wake(self) -> None:
        """Look at once: a job came and there is no worker."""
        self._woken.set()

    def ask(self, bounds: Bounds | int) -> None:
        """What an operator says: from now on between these bounds, or so many. 0: none until there is a job."""
        now = self._lane.seen().workers
        if isinstance(bounds, int):
            self.bounds, wanted = Bounds(bounds, max(bounds, 1)), bounds
        else:
            self.bounds, wanted = bounds, min(max(now, bounds.min), bounds.max)
        self._apply(Decision(wanted, "operator", f"from {self.bounds.min} to {self.bounds.max} were asked for"))

    def _apply(self, decision: Decision) -> None:
        """Bring the lane to the size that was decided."""
        before = self._lane.seen().workers
        if decision.workers == before:
            return
        direction = "up" if decision.workers > before else "down"
        log.info(
            "the %s lane goes from %d to %d workers (%s): %s",
            *(self._lane.name, before, decision.workers, decision.reason, decision.why),
        )
        self._count(direction, decision)
        self._lane.resize(decision.workers)

    def state(self) -> dict[str, Any]:
        """What /stats shows of it."""
        last = self.last and f"{self.last.workers} ({self.last.reason}): {self.last.why}"
        return {"min_workers": self.bounds.min, "max_workers": self.bounds.max, "last": last}

    async def _run(self) -> None:
        while True:
            try:
                self._look()
            except Exception:
                log.exception("the %s lane could not be scaled", self._lane.name)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _PERIOD)
            self._woken.clear()

    def _look(self) -> None:
        decision = decide(self.bounds, self.policy, self._lane.seen())
        if decision.reason == "memory" and not self._short:
            log.warning("the %s lane stays at %d workers: %s", self._lane.name, decision.workers, decision.why)
            self._count("none", decision)
        self._short = decision.reason == "memory"
        self._apply(decision)

    def _count(self, direction: str, decision: Decision) -> None:
        self.last = decision
        self._metrics.scalings.labels(self._lane.name, direction, decision.reason).inc()
