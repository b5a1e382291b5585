"""How many workers a lane should have: what holds for every decision, and for many of them one after the other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarserve.pool.scaling import Bounds, Policy, Seen, decide, room

POLICY = Policy(grow_after=5, shrink_after=300, retry_after=60)
SECONDS = st.floats(0, 1000)


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    least = draw(st.integers(0, 8))
    return Bounds(least, draw(st.integers(max(least, 1), 16)))


@st.composite
def lanes(draw: st.DrawFn) -> Seen:
    """What may be seen of a lane: workers start, hold jobs or are idle."""
    workers = draw(st.integers(0, 20))
    starting = draw(st.integers(0, workers))
    idle = draw(st.lists(SECONDS, max_size=workers - starting))
    waiting = draw(st.integers(0, 60))
    return Seen(
        workers=workers,
        starting=starting,
        width=draw(st.integers(1, 16)),
        waiting=waiting,
        oldest=draw(SECONDS) if waiting else 0.0,
        idle=idle,
        room=draw(st.none() | st.integers(0, 8)),
        failed=draw(SECONDS | st.just(math.inf)),
    )


@given(bounds(), lanes())
def test_a_decision_stays_within_the_bounds(bounds: Bounds, seen: Seen) -> None:
    wanted = decide(bounds, POLICY, seen).workers
    assert wanted <= bounds.max
    assert wanted >= min(bounds.min, seen.workers)
    if seen.failed >= POLICY.retry_after:
        assert wanted >= bounds.min


@given(bounds(), lanes())
def test_a_job_gets_a_worker_at_once_where_there_is_none(bounds: Bounds, seen: Seen) -> None:
    if seen.waiting:
        assert decide(bounds, POLICY, replace(seen, workers=0, starting=0, idle=())).workers > 0


@given(bounds(), lanes())
def test_a_lane_grows_only_while_jobs_wait_and_shrinks_only_while_none_does(bounds: Bounds, seen: Seen) -> None:
    decision = decide(bounds, POLICY, seen)
    if bounds.min <= seen.workers <= bounds.max:
        assert decision.workers <= seen.workers or seen.waiting
        assert decision.workers >= seen.workers or not seen.waiting


@given(bounds(), lanes())
def test_only_workers_that_had_no_job_for_long_leave_of_themselves(bounds: Bounds, seen: Seen) -> None:
    decision = decide(bounds, POLICY, seen)
    if decision.reason == "idle":
        assert seen.workers - decision.workers <= sum(idle >= POLICY.shrink_after for idle in seen.idle)


@given(bounds(), lanes())
def test_a_lane_with_workers_at_most_doubles_and_waits_for_those_that_start(bounds: Bounds, seen: Seen) -> None:
    decision = decide(bounds, POLICY, seen)
    if decision.reason == "waiting" and seen.workers:
        assert seen.workers < decision.workers <= 2 * seen.workers
        assert seen.starting == 0
        assert seen.oldest >= POLICY.grow_after
        assert decision.workers - seen.workers <= math.ceil(seen.waiting / seen.width)


@given(bounds(), lanes(), SECONDS)
def test_longer_waiting_never_asks_for_fewer_workers(bounds: Bounds, seen: Seen, longer: float) -> None:
    if seen.waiting:
        later = replace(seen, oldest=seen.oldest + longer)
        assert decide(bounds, POLICY, later).workers >= decide(bounds, POLICY, seen).workers


@given(bounds(), lanes())
def test_a_lane_never_grows_beyond_what_its_device_has_memory_for(bounds: Bounds, seen: Seen) -> None:
    decision = decide(bounds, POLICY, seen)
    if seen.room is not None and seen.workers and decision.reason in ("waiting", "memory"):
        assert decision.workers - seen.workers <= seen.room


@given(bounds(), lanes())
def test_one_decision_does_not_undo_the_last(bounds: Bounds, seen: Seen) -> None:
    """At the same moment nothing more is to be done."""
    decision = decide(bounds, POLICY, seen)
    change = decision.workers - seen.workers
    assert decide(bounds, POLICY, after(seen, change)).workers == decision.workers


def after(seen: Seen, change: int) -> Seen:
    if change > 0:
        return replace(seen, workers=seen.workers + change, starting=seen.starting + change)
    idle = sorted(seen.idle)[: max(len(seen.idle) + change, 0)]
    return replace(seen, workers=seen.workers + change, starting=min(seen.starting, seen.workers + change), idle=idle)


def test_a_job_that_meets_no_worker_gets_one_at_once() -> None:
    assert decide(Bounds(0, 4), POLICY, Seen(workers=0, waiting=1, room=0)).workers == 1


def test_after_a_worker_that_could_not_be_started_the_lane_waits_before_it_tries_again() -> None:
    seen = Seen(workers=1, waiting=9, oldest=30, failed=59)
    assert decide(Bounds(1, 4), POLICY, seen).reason == "steady"
    assert decide(Bounds(1, 4), POLICY, replace(seen, failed=60)).workers == 2


def simulated(clients: int, step: int, boot: int, bounds: Bounds, seconds: int) -> list[int]:
    """The number of workers at each second of a lane whose clients send a job whenever their last one is done. Jobs
    take `step` seconds and workers `boot` to start."""
    policy = Policy(grow_after=2, shrink_after=30)
    starting: list[int] = []  # seconds until each is up
    busy_until: list[int] = [0] * bounds.min  # of each worker that is up
    queue = [0] * clients  # when each job came
    running: list[int] = []  # when each job that runs is done
    sizes = []
    for now in range(seconds):
        queue += [now for end in running if end == now]
        running = [end for end in running if end > now]
        busy_until += [now] * sum(left == now for left in starting)
        starting = [left for left in starting if left > now]
        for number, free in enumerate(busy_until):
            if free <= now and queue:
                queue.pop(0)
                busy_until[number] = now + step
                running.append(now + step)
        seen = Seen(
            workers=len(busy_until) + len(starting),
            starting=len(starting),
            waiting=len(queue),
            oldest=float(max((now - came for came in queue), default=0)),
            idle=[float(now - free) for free in busy_until if free <= now],
        )
        wanted = decide(bounds, policy, seen).workers
        starting += [now + boot] * (wanted - seen.workers)
        for _ in range(seen.workers - wanted):
            busy_until.remove(min(busy_until))
        sizes.append(wanted)
    return sizes


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 20), st.integers(1, 40), bounds())
def test_under_a_steady_load_the_number_of_workers_settles(clients: int, step: int, boot: int, bounds: Bounds) -> None:
    sizes = simulated(clients, step, boot, bounds, 600)
    assert len(set(sizes[300:])) == 1
    changes = [later - earlier for earlier, later in itertools.pairwise(sizes) if later != earlier]
    assert sum((one > 0) != (other > 0) for one, other in itertools.pairwise(changes)) <= 1  # up, then down


@pytest.mark.parametrize(
    ("devices", "free", "needed", "fit"),
    [
        (["cuda:0"] * 4, {"cuda:0": 5}, 2, 2),
        (["cuda:0", "cuda:1"] * 2, {"cuda:0": 5, "cuda:1": 2}, 2, 3),
        (["cpu"] * 3, {"cpu": 100}, 2, 3),
        (["cpu"], {"cpu": 1}, 2, 0),
        (["cpu"], {"cpu": None}, 2, None),
        (["cpu"], {"cpu": 1}, None, None),
    ],
)
def test_for_how_many_workers_there_is_memory(
    devices: Sequence[str], free: dict[str, int | None], needed: int | None, fit: int | None
) -> None:
    assert room(devices, free, needed) == fit
