"""The loop inside a worker, in this process: engines that record what runs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from queue import SimpleQueue
from threading import Barrier, Event, Semaphore, get_ident
from typing import Any

import pytest

from workers.engine import Engine, Interim, JobSteps, StepOutputs, WorkItem
from workers.messages import AudioRef, BatchFill, Done, Progress, Request, Submit, Transcribe, Transcript, Word
from workers.runtime.batching import Batches
from workers.runtime.running import RunningJob
from workers.runtime.scheduler import Scheduler

NOTHING = AudioRef("", 0)


class Tested(Engine):
    def describe(self) -> dict[str, Any]:
        return {"model": "test", "device": "cpu"}


class OneModelAtATime(Tested):
    """A job's steps need the model that it names; two models do not fit beside each other."""

    parallel = 2

    def __init__(self) -> None:
        self.begun, self.permits = Event(), Semaphore(0)

    def job(self, request: Request) -> JobSteps:
        assert isinstance(request, Transcribe)
        yield [WorkItem(request.model, None) for _ in range(50 if request.model == "patient" else 1)]
        return request.model

    def can_run_beside(self, key: Hashable, running: Sequence[Hashable]) -> bool:
        return all(other == key for other in running)

    def run(self, items: Sequence[WorkItem]) -> Sequence[Any]:
        self.begun.set()
        if items[0].key == "patient":
            self.permits.acquire()
        return items


def test_an_urgent_job_gets_its_model_in_the_midst_of_one_that_uses_another() -> None:
    engine, sent = OneModelAtATime(), SimpleQueue[object]()
    scheduler = Scheduler(engine, sent.put, fill=None, step_timeout=None)
    scheduler.take(Submit("slow", "", Transcribe(NOTHING, model="patient"), virtual_deadline=100.0))
    engine.begun.wait()
    scheduler.take(Submit("quick", "", Transcribe(NOTHING, model="urgent"), virtual_deadline=0.0))
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
    """Each job has an item to prepare, four that are done two at a time, and a last one. Records which jobs were in
    which step."""

    def __init__(self) -> None:
        self.go, self.steps = Event(), list[tuple[str, list[str]]]()

    def batch(self, key: Hashable) -> int:
        return 1 if key == "prepare" else 2

    def job(self, request: Request) -> JobSteps:
        assert isinstance(request, Transcribe)
        yield [WorkItem("prepare", request.model)]
        yield [WorkItem("main", request.model)] * 4
        yield [WorkItem("last", request.model)]

    def can_batch_with(self, item: WorkItem, other: WorkItem) -> bool:
        return "unlike" not in {item.payload, other.payload}

    def run(self, items: Sequence[WorkItem]) -> Sequence[Any]:
        self.go.wait()
        self.steps.append((str(items[0].key), [str(item.payload) for item in items]))
        return items


def steps_of(fill: BatchFill | None, **virtual_deadline: float) -> list[tuple[str, list[str]]]:
    engine, sent = TwoOfEach(), SimpleQueue[object]()
    scheduler = Scheduler(engine, sent.put, fill=fill, step_timeout=None)
    for name, when in virtual_deadline.items():
        scheduler.take(Submit(name, "", Transcribe(NOTHING, model=name), virtual_deadline=when))
    engine.go.set()
    ended = 0
    while ended < len(virtual_deadline):
        ended += isinstance(sent.get(), Done)
    scheduler.close()
    return engine.steps


def main_steps_of(fill: BatchFill | None, **virtual_deadline: float) -> list[list[str]]:
    return [names for key, names in steps_of(fill, **virtual_deadline) if key == "main"]


def test_jobs_about_as_urgent_share_steps() -> None:
    assert main_steps_of(BatchFill(3, within=10), a=100, b=101) == [["a", "a", "b"], ["a", "a", "b"], ["b", "b"]]
    # Without room for more than an engine takes of one job, only what that leaves is filled.
    assert main_steps_of(BatchFill(), a=100, b=101) == [[name, name] for name in "aabb"]


def test_a_job_that_is_ahead_waits_for_one_submitted_soon_after() -> None:
    assert steps_of(BatchFill(3, within=10), a=100, b=101)[-1] == ("last", ["a", "b"])
    # Not for one that was submitted long after.
    assert steps_of(BatchFill(3, within=30), a=100, b=121)[3:5] == [("last", ["a"]), ("prepare", ["b"])]


@pytest.mark.parametrize("virtual_deadline", [{"a": 100, "b": 130}, {"a": 100, "unlike": 100.5}])
@pytest.mark.parametrize("fill", [None, BatchFill(3, within=10)])
def test_jobs_of_other_urgency_or_kind_share_none(fill: BatchFill | None, virtual_deadline: dict[str, float]) -> None:
    first, second = virtual_deadline
    assert main_steps_of(fill, **virtual_deadline) == [[name, name] for name in (first, first, second, second)]


def waiting(sizes: Sequence[float]) -> RunningJob:
    active = RunningJob("", "", 0.0, TwoOfEach().job(Transcribe(NOTHING)))
    active.waiting.extend(enumerate(WorkItem("main", None, size=size) for size in sizes))
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


class TellsEarly(Tested):
    """Yields the beginning of each item's output before the step is done."""

    parallel = 2

    def __init__(self) -> None:
        self.second_told, self.go = Event(), Event()

    def job(self, request: Request) -> JobSteps:
        yield [WorkItem("main", number, partial=True) for number in range(2)]
        return Transcript((), "en", "test")

    def run(self, items: Sequence[WorkItem]) -> StepOutputs:
        [number] = [item.payload for item in items]
        if number == 0:
            self.second_told.wait()  # the second item is ahead of the first, whose words come first
        yield Interim(0, words(number, "early"))
        if number == 1:
            self.second_told.set()
            self.go.wait()
        return [words(number, "early", "late")]


def words(number: int, *said: str) -> tuple[Word, ...]:
    return tuple(
        Word(f" {text}{number}", 2.0 * number + at, 2.0 * number + at + 1, 1.0) for at, text in enumerate(said)
    )


def test_a_step_tells_the_beginning_of_what_comes_next_and_of_nothing_else() -> None:
    engine, sent = TellsEarly(), SimpleQueue[object]()
    scheduler = Scheduler(engine, sent.put, fill=None, step_timeout=None)
    scheduler.take(Submit("job", "", Transcribe(NOTHING), virtual_deadline=0.0))
    told = sent.get()
    assert isinstance(told, Progress)
    assert (told.interim, told.partial) == (words(0, "early"), ())
    done = sent.get()
    assert isinstance(done, Progress)
    assert (done.interim, done.partial) == ((), (words(0, "early", "late"),))
    engine.go.set()
    last = sent.get()
    assert isinstance(last, Progress)
    assert (last.interim, last.partial) == ((), (words(1, "early", "late"),))
    scheduler.close()


class WhoWorks(Tested):
    """Records the threads that it runs in. Two steps may wait for each other."""

    parallel = 2

    def __init__(self) -> None:
        self.meeting, self.threads = Barrier(2), list[int]()

    def job(self, request: Request) -> JobSteps:
        assert isinstance(request, Transcribe)
        yield [WorkItem(request.model, None)]

    def run(self, items: Sequence[WorkItem]) -> Sequence[Any]:
        self.threads.append(get_ident())
        if items[0].key == "meet":
            self.meeting.wait()
        return items


def test_as_few_threads_work_as_are_needed() -> None:
    engine, sent = WhoWorks(), SimpleQueue[object]()
    scheduler = Scheduler(engine, sent.put, fill=None, step_timeout=None)
    for name in ("one", "other"):
        scheduler.take(Submit(name, "", Transcribe(NOTHING, model="meet"), virtual_deadline=1.0))
    for _ in range(2):
        assert isinstance(sent.get(), Done)
    assert len(set(engine.threads)) == 2
    engine.threads.clear()
    for number in range(10):
        scheduler.take(Submit(str(number), "", Transcribe(NOTHING), virtual_deadline=1.0))
        assert isinstance(sent.get(), Done)
    scheduler.close()
    assert len(set(engine.threads)) == 1
