"""A lane: one queue, and the workers of one kind that serve it, the most urgent job first (diarserve.pool.job)."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from diarserve.core import errors
from diarserve.core.types import Priority
from diarserve.observe.metrics import Metrics, exemplar
from diarserve.pool import job_spans
from diarserve.pool.job import LIVE_OFFSET, Job, OnProgress
from diarserve.pool.job_queue import JobQueue
from diarserve.pool.live_job import LiveAudio, LiveJob, OnOutput
from diarserve.pool.scaler import Scaler
from diarserve.pool.scaling import Bounds, Policy, Seen
from diarserve.pool.slot import Slot
from diarserve.pool.slots import Slots, give
from diarserve.pool.worker import Start
from diarserve.pool.worker_process import WorkerProcess
from workers.messages import Asks, Done, Failed, LiveRequest, R, Request, WorkerSpec
from workers.messages.live import LiveEnd

log = logging.getLogger(__name__)


class Lane:
    """Give it jobs with `run`; it gives each to a worker with room, and again to another if that one dies.

    lane = Lane([WorkerSpec("whisper", "workers.whisper.engine:Whisper")], Metrics())
    lane.start()
    done = await lane.run(Transcribe(audio), virtual_deadline=virtual_deadline("high", audio.duration))
    await lane.close()
    """

    def __init__(
        self,
        specs: Sequence[WorkerSpec],
        metrics: Metrics,
        *,
        workers: int | None = None,
        bounds: Bounds | None = None,
        policy: Policy = Policy(),  # noqa: B008, it is frozen
        width: int = 4,
        attempts: int = 3,
        boot_timeout: float = 300.0,
        start: Start = WorkerProcess.start,
        free: Callable[[str], int | None] = lambda device: None,
    ) -> None:
        """
        specs: of the workers in turn; they differ in nothing but the device.
        workers: how many there are at the start. Default: one for each spec.
        bounds, policy: how many there are later (diarserve.pool.scaling). Default: always as many.
        width: jobs that one worker holds at a time.
        attempts: how often a job is tried whose worker dies or whose model fails.
        boot_timeout: seconds from a worker's start until it is ready.
        start: makes a worker of a spec, see diarserve.pool.worker.
        free: bytes of memory that are left on a device.
        """
        self.name = specs[0].lane
        self._metrics = metrics
        self._queue_wait = metrics.queue_wait.labels(self.name)
        workers = len(specs) if workers is None else workers
        self._slots = Slots(
            specs, partial(Slot, owner=self, metrics=metrics, boot_timeout=boot_timeout, start=start), workers
        )
        self.scaler = Scaler(self, bounds or Bounds(workers, max(workers, 1)), policy, metrics)
        self._free = free
        self._width = width
        self._attempts = attempts
        self._queue = JobQueue()
        self._ids = itertools.count()
        self._changed = asyncio.Event()  # a slot is ready or halted
        self._closing = False

    def start(self) -> None:
        self._slots.start()
        self.scaler.start()

    async def close(self) -> None:
        """Kill the workers and wait until they are reaped. Jobs that were not done raise NotReady."""
        self._closing = True
        self._changed.set()
        self._end_queued()
        self.scaler.close()
        await self._slots.close()

    @property
    def ready(self) -> bool:
        """Whether a worker is up."""
        return self._slots.ready

    @property
    def asleep(self) -> bool:
        """Whether there is no worker, since there is nothing to do: the next job starts one."""
        return not (self._slots.staying or self._queue or self._closing)

    @property
    def available(self) -> bool:
        """Whether a job would begin at once, or when a worker is up of a lane that had slept."""
        return self.ready or self.asleep or (self.scaler.bounds.min == 0 and self._slots.loaded and not self.halted)

    @property
    def loaded(self) -> bool:
        """Whether a worker was up once, so that one will be again, or none is needed before there is a job."""
        return self._slots.loaded or self.asleep

    @property
    def halted(self) -> str | None:
        """Why no worker will ever be up; None while one is, or may yet be."""
        if self._closing:
            return "the server is shutting down"
        return self._slots.halted

    @property
    def info(self) -> Mapping[str, Any]:
        """What its models say of themselves; which are loaded, of all workers together."""
        return self._slots.info

    def state(self) -> dict[str, Any]:
        """What /stats shows of the lane."""
        return {
            "ready": self.ready,
            "asleep": self.asleep,
            "halted": self.halted,
            **self._queue.state(),
            "model": dict(self.info),
            "workers": self._slots.state(),
            "scaling": {**self.scaler.state(), "wanted": len(self._slots.staying)},
        }

    def seen(self) -> Seen:
        """What decides how many workers there are to be."""
        seen = self._slots.seen(self._queue, self._width)
        if seen.waiting and seen.workers < (most := self.scaler.bounds.max):
            return replace(seen, room=self._slots.room(most - seen.workers, self._free))
        return seen

    def resize(self, workers: int) -> None:
        """Have so many workers. Those that leave get no more jobs and end once what they hold is done. Live jobs may
        last for hours: they go on in another worker, where there is one."""
        self._slots.grow(workers)
        for slot in self._slots.surplus(workers):
            slot.leaving = True
            if any(other.ready for other in self._slots.staying):
                for job in [job for job in slot.jobs.values() if job.live]:
                    slot.cancel(job)
                    job.attempts -= 1  # none of it failed
                    self._queue_again(job)
            self._end_if_left(slot)
        self._dispatch()

    def _end_if_left(self, slot: Slot) -> None:
        if slot.leaving and not slot.jobs:
            self._slots.remove(slot)

    async def wait_ready(self) -> None:
        """Wait until the lane is ready, halted or asleep."""
        while not (self.ready or self.halted or self.asleep):
            self._changed.clear()
            await self._changed.wait()

    async def run(
        self,
        request: Asks[R],
        *,
        virtual_deadline: float,
        task: str = "",
        priority: Priority = "high",
        on_progress: OnProgress | None = None,
    ) -> Done[R]:
        """Do one job of a task (its name in the log; its priority is counted, the deadline holds it already).
        Cancelling the caller cancels it. Raises ServiceError:
        NotReady where no worker can start, ModelFailed where all attempts failed, and what the engine says of the
        recording (diarserve.core.errors.from_job). Raises OSError where the job's files cannot be opened."""
        if self.halted:
            raise self._not_ready()
        answer: asyncio.Future[Done[R]] = asyncio.get_running_loop().create_future()
        job = self._queue_new(
            cast(Request, request), task, virtual_deadline, answer, priority=priority, on_progress=on_progress
        )
        try:
            done = await answer
        finally:
            if not answer.done() or answer.cancelled():
                self._withdraw(job)
        self._queue_wait.observe(done.started - job.queued, exemplar(task))
        if done.degraded:
            self._metrics.degraded.labels(self.name).inc()
        return done

    def open(self, request: LiveRequest, *, task: str = "", on_output: OnOutput) -> LiveJob:
        """Begin a job whose audio keeps arriving; `on_output` is called with what its worker tells. It is more urgent
        than all others. When its worker dies it goes on in another from the last output. Close it. Raises NotReady."""
        if self.halted:
            raise self._not_ready()
        answer: asyncio.Future[Done[LiveEnd]] = asyncio.get_running_loop().create_future()
        audio = LiveAudio(on_output, request.audio.samples)
        job = self._queue_new(request, task, time.monotonic() + LIVE_OFFSET, answer, live=audio)
        return LiveJob(audio, answer, partial(self._append, job), partial(self._withdraw, job))

    def _queue_new(
        self, request: Request, task: str, deadline: float, answer: asyncio.Future[Done[Any]], **more: Any
    ) -> Job:
        job = Job(f"{self.name}-{next(self._ids)}", task, request, deadline, answer, time.monotonic(), **more)
        self._queue.push(job_spans.followed(job, self.name))
        self._dispatch()
        return job

    def _append(self, job: Job, waited: bool) -> None:
        for slot in self._slots:
            slot.append(job, waited)

    def on_change(self) -> None:
        """A slot is ready or halted."""
        self._changed.set()
        self._slots.give_up_halted(self.scaler.bounds)
        if reason := self.halted:
            log.error("the %s lane is halted: %s", self.name, reason)
            self._end_queued()
        self._dispatch()
        self._share()

    def on_answer(self, slot: Slot, job: Job, answer: Done[Any] | Failed) -> None:
        """A worker is done with a job."""
        if isinstance(answer, Done):
            job.end(answer)
        elif answer.retry and job.attempts < self._attempts:
            self._queue_again(job)
        else:
            job.end(errors.from_job(answer.code, answer.message))
        self._end_if_left(slot)
        self._dispatch()

    def on_lost(self, slot: Slot, jobs: Sequence[Job]) -> None:
        """A worker died and held these jobs. Each may be the cause: none is tried beside another again."""
        for job in jobs:
            job.attempts -= job.awaits_audio  # one that had nothing to do is not the cause
            if job.attempts < self._attempts or self._closing:
                job.alone = True
                self._queue_again(job)
            else:
                job.end(errors.from_job("crashed", f"The {self.name} worker crashed on this recording."))
        self._end_if_left(slot)
        self._dispatch()

    def _dispatch(self) -> None:
        """Give the most urgent jobs to the workers that have room."""
        while self._queue:
            job = self._queue.first
            slots = [slot for slot in self._slots if slot.has_room(job, self._width)]
            if not slots:
                break
            self._queue.pop()
            job.count_attempt()
            if job.attempts > 1:
                self._metrics.job_retries.labels(self.name).inc()
            give(min(slots, key=lambda slot: len(slot.jobs)), job)
        if self._queue and not self._slots.staying:
            self.scaler.wake()

    def _share(self) -> None:
        """A worker is up: it takes over jobs that others hold and have not begun, the most urgent first."""
        while transfer := self._slots.transfer(self._width):
            transfer.giver.cancel(transfer.job)
            give(transfer.taker, transfer.job)

    def _queue_again(self, job: Job) -> None:
        if self.halted:
            job.end(self._not_ready())
        else:
            job.wait_again()
            self._queue.push(job)

    def _withdraw(self, job: Job) -> None:
        self._queue.remove(job)
        for slot in self._slots:
            slot.cancel(job)
            self._end_if_left(slot)
        self._dispatch()

    def _end_queued(self) -> None:
        for job in self._queue.clear():
            job.end(self._not_ready())

    def _not_ready(self) -> errors.NotReady:
        if self._closing:
            return errors.NotReady("The server is shutting down.")
        return errors.NotReady(f"The {self.name} worker cannot start; see /readyz.")
