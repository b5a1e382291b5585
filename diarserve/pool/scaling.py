"""How many workers a lane should have: pure functions of what is seen of it. diarserve.pool.scaler asks and acts.

It grows when the oldest waiting job has waited for `grow_after`, at most to twice its size, and not again before all
that were started are up. Workers that had no job for `shrink_after` leave, and only while nothing waits. So one
decision never undoes the last. Under light load it is always the same workers that have nothing to do, since a lane
gives a job to the first of those that hold the fewest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "minimum",  # there are fewer than the lane's minimum
    "maximum",
    "waiting",  # a job waits, for too long where there are workers
    "idle",  # workers have had nothing to do for long
    "memory",  # more are needed, and the device's memory has no room for them
    "operator",  # somebody asked for it
    "steady",  # nothing is to be changed
]


@dataclass(frozen=True, slots=True)
class Bounds:
    min: int  # 0: an idle lane gives up its last worker too, and the next job starts one
    max: int  # at least 1, and at least `min`


@dataclass(frozen=True, slots=True)
class Policy:
    grow_after: float = 5.0  # seconds that a job waits
    shrink_after: float = 300.0  # seconds that a worker has nothing to do
    retry_after: float = 60.0  # seconds after a worker could not be started


@dataclass(frozen=True, slots=True)
class Seen:
    """What is seen of a lane at one moment."""

    workers: int  # those that leave are not counted
    starting: int = 0  # of them, whose models are not loaded yet
    width: int = 1  # jobs that one worker holds at a time
    waiting: int = 0  # jobs that wait for their first step
    oldest: float = 0.0  # seconds for which the oldest of them has waited
    idle: Sequence[float] = ()  # seconds, for each worker that holds no job
    room: int | None = None  # for how many more workers there is memory, 0 or more; None: unknown
    failed: float = math.inf  # seconds since a worker could not be started


@dataclass(frozen=True, slots=True)
class Decision:
    workers: int  # that the lane should have
    reason: Reason
    why: str = ""  # for the log


def decide(bounds: Bounds, policy: Policy, seen: Seen) -> Decision:
    """
    >>> decide(Bounds(1, 4), Policy(), Seen(workers=1, waiting=20, oldest=6.0, width=4))
    Decision(workers=2, reason='waiting', why='20 jobs wait, the oldest for 6.0 s')
    """
    steady = Decision(seen.workers, "steady")
    if seen.workers > bounds.max:
        return Decision(bounds.max, "maximum", f"{bounds.max} is the most")
    if seen.workers and seen.failed < policy.retry_after:  # without workers a job would wait for as long
        return steady
    if seen.workers < bounds.min:
        return Decision(bounds.min, "minimum", f"{bounds.min} is the least")
    if seen.waiting:
        return _grown(bounds, policy, seen)
    leaving = min(sum(idle >= policy.shrink_after for idle in seen.idle), seen.workers - bounds.min)
    if leaving:
        return Decision(seen.workers - leaving, "idle", f"{leaving} had no job for {policy.shrink_after:g} s")
    return steady


def _grown(bounds: Bounds, policy: Policy, seen: Seen) -> Decision:
    """Of a lane in which jobs wait."""
    why = f"{seen.waiting} jobs wait, the oldest for {seen.oldest:.1f} s"
    if seen.workers == 0:
        return Decision(1, "waiting", why)
    needed = seen.workers + math.ceil(seen.waiting / seen.width)
    wanted = min(2 * seen.workers, needed, bounds.max)
    if seen.oldest < policy.grow_after or seen.starting or wanted == seen.workers:
        return Decision(seen.workers, "steady")
    if seen.room is not None and seen.room < wanted - seen.workers:
        wanted = seen.workers + seen.room
        why += f"; there is memory for {seen.room} more"
    return Decision(wanted, "waiting" if wanted > seen.workers else "memory", why)


def room(devices: Sequence[str], free: Mapping[str, int | None], needed: int | None) -> int | None:
    """How many workers more there is memory for. None: unknown.

    devices: of the workers that would come next, in this order. free: bytes. needed: bytes that one worker takes.

    >>> room(["cuda:0", "cuda:1", "cuda:0"], {"cuda:0": 5_000, "cuda:1": 2_000}, 2_000)
    3
    >>> room(["cuda:0", "cuda:1", "cuda:0"], {"cuda:0": 3_000, "cuda:1": 1_000}, 2_000)
    1
    """
    if needed is None:
        return None
    left = dict(free)
    for number, device in enumerate(devices):
        known = left.get(device)
        if known is None:
            return None
        if known < needed:
            return number
        left[device] = known - needed
    return len(devices)
