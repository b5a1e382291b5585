"""The loop inside a worker, in this process: engines that record what runs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from queue import SimpleQueue
from threading import Barrier, Event, Semaphore, get_ident
from typing import Any

import pytest

from workers.active import Active
from workers.batches import Batches
from workers.engine import Engine, Job, Unit
from workers.messages import AudioRef, Done, Fill, Request, Submit, Transcribe
from workers.scheduler import Scheduler

NOTHING = AudioRef("", 0)


class Tested(Engine):
    def describe(self) -> dict[str, Any]:
        return {"model": "test", "device": "cpu"}


class OneModelAtATime(Tested):
    """A job's steps need the model that it names; two models do not fit beside each other."""

    parallel = 2

    def __init__(self) -> None:
        self.begun, self.permits = Event(), Semaphore(0)

    def job(self, request: Request) -> Job:
        assert isinstance(request, Transcribe)
        yield [Unit(request.model, None) for _ in range(50 if request.model == "patient" else 1)]
        return request.model

    def admits(self, key: Hashable, running: Sequence[Hashable]) -> bool:
        return all(other == key for other in running)

    def run(self, units: Sequence[Unit]) -> Sequence[Any]:
        self.begun.set()
        if units[0].key == "patient":
            self.permits.acquire()
        return units


def test_an_urgent_job_gets_its_model_in_the_midst_of_one_that_uses_another() -> None:
    engine, sent = OneModelAtATime(), SimpleQueue[object]()
    scheduler = Scheduler(engine, sent.put, fill=None, step_timeout=None)
    scheduler.take(Submit("slow", "", Transcribe(NOTHING, model="patient"), due=100.0))
    engine.begun.wait()
    scheduler.take(Submit("quick", "", Transcribe(NOTHING, model="urgent"), due=0.0))
    ended: list[str] = []
    for _ in range(10):
        engine.permits.release()  # one step ends, while the other goes on
        message = sent.get()
        if isinstance(message, Done):
            ended.append(message.job)
            break
    engine.permits.release(50)
    scheduler.close()
    assert ended == ["quick"]


class TwoOfEach(Tested):
    """Each job has a unit to prepare, four that are done two at a time, and a last one. Records who was in which
    step."""

    def __init__(self) -> None:
        self.go, self.steps = Event(), list[tuple[str, list[str]]]()

    def batch(self, key: Hashable) -> int:
        return 1 if key == "prepare" else 2

    def job(self, request: Request) -> Job:
        assert isinstance(request, Transcribe)
        yield [Unit("prepare", request.model)]
        yield [Unit("main", request.model)] * 4
        yield [Unit("last", request.model)]

    def alike(self, unit: Unit, other: Unit) -> bool:
        return "unlike" not in {unit.payload, other.payload}

    def run(self, units: Sequence[Unit]) -> Sequence[Any]:
        self.go.wait()
        self.steps.append((str(units[0].key), [str(unit.payload) for unit in units]))
        return units


def steps_of(fill: Fill | None, **due: float) -> list[tuple[str, list[str]]]:
    engine, sent = TwoOfEach(), SimpleQueue[object]()
    scheduler = Scheduler(engine, sent.put, fill=fill, step_timeout=None)
    for name, when in due.items():
        scheduler.take(Submit(name, "", Transcribe(NOTHING, model=name), due=when))
    engine.go.set()
    ended = 0
    while ended < len(due):
        ended += isinstance(sent.get(), Done)
    scheduler.close()
    return engine.steps


def main_steps_of(fill: Fill | None, **due: float) -> list[list[str]]:
    return [names for key, names in steps_of(fill, **due) if key == "main"]


def test_jobs_about_as_urgent_share_steps() -> None:
    assert main_steps_of(Fill(3, within=10), a=100, b=101) == [["a", "a", "b"], ["a", "a", "b"], ["b", "b"]]
    # Without room for more than an engine takes of one job, only what that leaves is filled.
    assert main_steps_of(Fill(), a=100, b=101) == [[name, name] for name in "aabb"]


def test_who_is_ahead_lets_those_catch_up_that_came_soon_after() -> None:
    assert steps_of(Fill(3, within=10), a=100, b=101)[-1] == ("last", ["a", "b"])
    # Not those that came long after.
    assert steps_of(Fill(3, within=30), a=100, b=121)[3:5] == [("last", ["a"]), ("prepare", ["b"])]


@pytest.mark.parametrize("due", [{"a": 100, "b": 130}, {"a": 100, "unlike": 100.5}])
@pytest.mark.parametrize("fill", [None, Fill(3, within=10)])
def test_others_do_not(fill: Fill | None, due: dict[str, float]) -> None:
    first, second = due
    assert main_steps_of(fill, **due) == [[name, name] for name in (first, first, second, second)]


def waiting(sizes: Sequence[float]) -> Active:
    active = Active("", "", 0.0, TwoOfEach().job(Transcribe(NOTHING)))
    active.waiting.extend(enumerate(Unit("main", None, size=size) for size in sizes))
    return active


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([0.25] * 9, [8, 1]),  # eight quarters are two whole ones
        ([0.25, 0.25, 1, 0.25], [2, 2]),  # all are padded to the largest
        ([1, 0.25, 0.25], [2, 1]),
        ([3, 1], [1, 1]),  # one goes in any case
    ],
)
def test_a_step_holds_more_of_the_short_ones(sizes: list[float], expected: list[int]) -> None:
    batches, job = Batches(TwoOfEach(), None), waiting(sizes)
    assert [len(batches.pick([job], [])) for _ in expected] == expected
    assert not job.waiting


def test_what_did_not_fit_is_halved_by_size() -> None:
    batches = Batches(TwoOfEach(), None)
    batches.halve(batches.pick([waiting([0.25] * 8)], []))
    assert len(batches.pick([waiting([0.25] * 8)], [])) == 4
    assert len(batches.pick([waiting([0.125] * 12)], [])) == 8


class WhoWorks(Tested):
    """Records the threads that it runs in. Two steps may wait for each other."""

    parallel = 2

    def __init__(self) -> None:
        self.meeting, self.threads = Barrier(2), list[int]()

    def job(self, request: Request) -> Job:
        assert isinstance(request, Transcribe)
        yield [Unit(request.model, None)]

    def run(self, units: Sequence[Unit]) -> Sequence[Any]:
        self.threads.append(get_ident())
        if units[0].key == "meet":
            self.meeting.wait()
        return units


def test_as_few_threads_work_as_are_needed() -> None:
    engine, sent = WhoWorks(), SimpleQueue[object]()
    scheduler = Scheduler(engine, sent.put, fill=None, step_timeout=None)
    for name in ("one", "other"):
        scheduler.take(Submit(name, "", Transcribe(NOTHING, model="meet"), due=1.0))
    for _ in range(2):
        assert isinstance(sent.get(), Done)
    assert len(set(engine.threads)) == 2
    engine.threads.clear()
    for number in range(10):
        scheduler.take(Submit(str(number), "", Transcribe(NOTHING), due=1.0))
        assert isinstance(sent.get(), Done)
    scheduler.close()
    assert len(set(engine.threads)) == 1
