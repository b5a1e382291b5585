"""The loop inside a worker, in this process: engines that record what runs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import Any

from workers.engine import Engine, Job, Unit
from workers.messages import AudioRef, Done, Request, Submit, Transcribe
from workers.scheduler import STOP, Scheduler

NOTHING = AudioRef("", 0)


class OneModelAtATime(Engine):
    """A job's steps need the model that it names; two models do not fit beside each other."""

    parallel = 2

    def __init__(self) -> None:
        self.begun, self.permits = Event(), Semaphore(0)

    def describe(self) -> dict[str, Any]:
        return {"model": "test", "device": "cpu"}

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
    engine, inbox, sent = OneModelAtATime(), SimpleQueue[object](), SimpleQueue[object]()
    thread = Thread(target=Scheduler(engine, inbox, sent.put, fill=False, step_timeout=None).run)
    thread.start()
    inbox.put(Submit("slow", "", Transcribe(NOTHING, model="patient"), due=100.0))
    engine.begun.wait()
    inbox.put(Submit("quick", "", Transcribe(NOTHING, model="urgent"), due=0.0))
    ended: list[str] = []
    for _ in range(10):
        engine.permits.release()  # one step ends, while the other goes on
        message = sent.get()
        if isinstance(message, Done):
            ended.append(message.job)
            break
    engine.permits.release(50)
    inbox.put(STOP)
    thread.join()
    assert ended == ["quick"]
