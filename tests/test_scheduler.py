"""The loop inside a worker, in this process: engines that record what runs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from queue import SimpleQueue
from threading import Barrier, Event, Semaphore, get_ident
from typing import Any

import pytest

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
    """Each job has a unit to prepare, and then four that are done two at a time. Records who was in which step."""

    def __init__(self) -> None:
        self.go, self.steps = Event(), list[tuple[str, list[str]]]()

    def batch(self, key: Hashable) -> int:
        return 2 if key == "main" else 1

    def job(self, request: Request) -> Job:
        assert isinstance(request, Transcribe)
        yield [Unit("prepare", request.model)]
        yield [Unit("main", request.model)] * 4

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
    return [step for step in engine.steps if step[0] == "main"]


def test_jobs_about_as_urgent_share_steps() -> None:
    shared = steps_of(Fill(3, within=10), a=100, b=101)
    assert shared == [("main", ["a", "a", "b"]), ("main", ["a", "a", "b"]), ("main", ["b", "b"])]
    # Without room for more than an engine takes of one job, only what that leaves is filled.
    assert steps_of(Fill(), a=100, b=101) == [("main", [name, name]) for name in "aabb"]


@pytest.mark.parametrize("due", [{"a": 100, "b": 130}, {"a": 100, "unlike": 100.5}])
@pytest.mark.parametrize("fill", [None, Fill(3, within=10)])
def test_others_do_not(fill: Fill | None, due: dict[str, float]) -> None:
    first, second = due
    assert steps_of(fill, **due) == [("main", [name, name]) for name in (first, first, second, second)]


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
