"""The deadline of steps: a worker process whose step hangs ends itself."""

from __future__ import annotations

import faulthandler
import time


class StepDeadline:
    """faulthandler's timer needs no GIL, prints where the step hangs, and exits; the server sees the worker die and
    tries its jobs again. Setting the timer starts a thread, which is half of what a short job costs: so it is set at
    most once in `slack` seconds, and late by as much."""

    def __init__(self, timeout: float | None) -> None:
        """Seconds; None: the process is not ours to end, and there is no deadline."""
        self._timeout = timeout
        self.slack = min(1.0, (timeout or 0.0) / 4)
        self._set_at: float | None = None

    def watch(self, oldest: float | None) -> None:
        """`oldest`: when the step began that has run longest (time.monotonic()); None: no step runs."""
        now = time.monotonic()
        if self._timeout is None or (self._set_at is not None and now - self._set_at < self.slack):
            return
        if oldest is not None:
            left = oldest + self._timeout + self.slack - now
            faulthandler.dump_traceback_later(max(left, 0.001), exit=True, file=2)
            self._set_at = now
        elif self._set_at is not None:
            faulthandler.cancel_dump_traceback_later()
            self._set_at = None
