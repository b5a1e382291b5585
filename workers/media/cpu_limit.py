"""A limit on the CPU time of a decoder's steps, which the kernel enforces wherever in C a step is."""

from __future__ import annotations

import math
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class CpuLimit:
    """RLIMIT_CPU is one for the process, and steps overlap: so it is set in one place, from all steps that run,
    whenever one begins or ends. What each has left is told by its own thread's clock, so that a step neither uses up
    what belongs to another nor gets more because others come and go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: dict[object, tuple[int, float]] = {}  # the clock of its thread, and the time there at its limit
        self._before = resource.RLIM_INFINITY  # the soft limit while no step runs

    @contextmanager
    def step(self, seconds: float, clock: int | None = None) -> Iterator[None]:
        """In the thread that runs it, or with the CPU clock of the one that does. A step that burns more CPU time than
        this ends its process (SIGXCPU); if others run beside it, at the latest when all together have burnt what they
        may."""
        step, clock = object(), time.pthread_getcpuclockid(threading.get_ident()) if clock is None else clock
        with self._lock:
            if not self._steps:
                self._before = resource.getrlimit(resource.RLIMIT_CPU)[0]
            self._steps[step] = clock, _now(clock) + seconds
            self._set()
        try:
            yield
        finally:
            with self._lock:
                del self._steps[step]
                self._set()

    def _set(self) -> None:
        soft, hard = self._before, resource.getrlimit(resource.RLIMIT_CPU)[1]
        if self._steps:
            left = sum(max(0.0, end - _now(clock)) for clock, end in self._steps.values())
            limits = (math.ceil(time.process_time() + left), soft, hard)
            soft = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _now(clock: int) -> float:
    """Infinite once the clock's thread has ended: it burns no more."""
    try:
        return time.clock_gettime(clock)
    except OSError:
        return math.inf
