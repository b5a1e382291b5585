"""A lane: one queue, and the workers of one kind that serve it, the most urgent job first (diarserve.pool.job)."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from diarserve.core import errors
from diarserve.observe.metrics import Metrics
from diarserve.pool.job import Job, OnProgress, Slot
from diarserve.pool.worker import Start, Worker
from diarserve.pool.worker_process import WorkerProcess
from workers.messages import BootFailed, Cancel, Done, Failed, Progress, Ready, Report, Request, Submit, WorkerSpec

log = logging.getLogger(__name__)

_BOOT_ATTEMPTS = 5
_KILL_GRACE = 15.0  # seconds past a step's own deadline before the server kills: a stopped process has no timer


class Lane:
    def __init__(
        self,
        specs: Sequence[WorkerSpec],
        metrics: Metrics,
        *,
        width: int = 4,
        attempts: int = 3,
        boot_timeout: float = 300.0,
        start: Start = WorkerProcess.start,
    ) -> None:
        """One worker for each of the specs, which differ in nothing but the device."""
        self.name = specs[0].lane
        self.halted: str | None = None  # why the lane gave up starting workers
        self._metrics = metrics
        self._queue_wait = metrics.queue_wait.labels(self.name)
        self._slots = [Slot(spec) for spec in specs]
        self._width = width  # jobs one worker holds at a time
        self._attempts = attempts
        self._boot_timeout = boot_timeout
        self._start = start
        self._queue: list[Job] = []
        self._ids = itertools.count()
        self._keepers: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()

    def start(self) -> None:
        self._keepers = [asyncio.create_task(self._keep(slot)) for slot in self._slots]

    async def close(self) -> None:
        """Kill the workers and wait until they are reaped. Jobs that were not done are refused."""
        self._closing.set()
        self._refuse("the server is shutting down")
        for slot in self._slots:
            if slot.worker:
                slot.worker.kill()
        await asyncio.gather(*self._keepers)

    @property
    def ready(self) -> bool:
        return any(slot.ready for slot in self._slots)

    @property
    def info(self) -> Mapping[str, Any]:
        """What its models say of themselves; which are loaded, of all workers together."""
        infos = [slot.info for slot in self._slots if slot.info]
        if not infos:
            return {}
        loaded = {name for info in infos for name in info.get("loaded", ())}
        return {**infos[0], "loaded": sorted(loaded)} if loaded else infos[0]

    def state(self) -> dict[str, Any]:
        return {
            "ready": self.ready,
            "halted": self.halted,
            "queued": len(self._queue),
            "oldest_queued": max((time.monotonic() - job.queued for job in self._queue), default=0.0),
            "model": dict(self.info),
            "workers": [
                {
                    "pid": slot.worker.pid if slot.worker and slot.ready else None,
                    "jobs": len(slot.held),
                    "restarts": slot.restarts,
                    "device": slot.info.get("device"),
                    "memory": slot.info.get("memory", {}),
                }
                for slot in self._slots
            ],
        }

    async def wait_ready(self) -> None:
        """Wait until the lane is ready or halted."""
        while not self.ready and not self.halted:
            self._changed.clear()
            await self._changed.wait()

    async def run(
        self, request: Request, *, virtual_deadline: float, task: str = "", on_progress: OnProgress | None = None
    ) -> Done:
        """Do one job of a task. Cancelling the caller cancels it. Raises ServiceError."""
        if self.halted:
            raise errors.NotReady(f"The {self.name} worker cannot start; see /readyz.")
        answer: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        job = Job(
            f"{self.name}-{next(self._ids)}", task, request, virtual_deadline, on_progress, answer, time.monotonic()
        )
        heapq.heappush(self._queue, job)
        self._dispatch()
        try:
            done = await answer
        finally:
            if not answer.done() or answer.cancelled():
                self._withdraw(job)
        self._queue_wait.observe(done.started - job.queued)
        if done.degraded:
            self._metrics.degraded.labels(self.name).inc()
        return done

    def _withdraw(self, job: Job) -> None:
        if job in self._queue:
            self._queue.remove(job)
            heapq.heapify(self._queue)
        for slot in self._slots:
            if slot.held.pop(job.id, None) and slot.worker:
                slot.worker.send(Cancel(job.id))
                self._watch(slot)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._queue:
            job = self._queue[0]
            slots = [slot for slot in self._slots if slot.room(job, self._width)]
            if not slots:
                return
            slot = min(slots, key=lambda slot: len(slot.held))
            heapq.heappop(self._queue)
            job.attempts += 1  # before it starts, so that whatever it does to the worker is counted
            if job.attempts > 1 and job.on_progress:
                job.on_progress(Progress(job.id, 0.0))  # what it reported so far, it will report again
            slot.held[job.id] = job
            assert slot.worker is not None
            slot.worker.send(Submit(job.id, job.task, job.request, job.virtual_deadline))
            self._watch(slot)

    def _watch(self, slot: Slot) -> None:
        """(Re)start the clock for the worker's next sign of life. The timer is let run: to move it with every message
        costs more than to look at the clock once it has rung."""
        slot.last_message_at = time.monotonic()
        if not slot.deadline:
            self._wait(slot, slot.spec.step_timeout + _KILL_GRACE)

    def _wait(self, slot: Slot, seconds: float) -> None:
        slot.deadline = asyncio.get_running_loop().call_later(seconds, self._look, slot)

    def _look(self, slot: Slot) -> None:
        slot.deadline = None
        if not (slot.held and slot.worker):
            return  # nothing is asked of it
        left = slot.last_message_at + slot.spec.step_timeout + _KILL_GRACE - time.monotonic()
        if left > 0:
            self._wait(slot, left)
        else:
            log.error("%s worker %d gave no sign of life for too long: killed", self.name, slot.worker.pid)
            slot.worker.kill()

    async def _keep(self, slot: Slot) -> None:
        """Keep a worker in the slot: start it, serve it, and when it dies, start the next."""
        while not self.halted:
            slot.worker = worker = await self._start(slot.spec)
            if self._closing.is_set():
                worker.kill()
            await self._serve(slot, worker)
            slot.ready = False
            code = await worker.close()
            self._requeue(slot)
            self._watch(slot)
            if self.halted:
                break
            slot.restarts += 1
            self._metrics.restarts.labels(self.name, "killed" if code < 0 else "exited").inc()
            log.error("%s worker %d is gone (exit code %d); starting another", self.name, worker.pid, code)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), min(0.25 * (2**slot.failures - 1), 30.0))

    async def _serve(self, slot: Slot, worker: Worker) -> None:
        """From boot to death. `failures` counts the deaths in a row that no finished job came between."""
        slot.failures += 1
        try:
            async with asyncio.timeout(self._boot_timeout):
                hello = await worker.receive()
        except (TimeoutError, EOFError) as error:
            silent = isinstance(error, TimeoutError)
            hello = BootFailed("it took too long to start" if silent else "it died while starting")
            if slot.failures < _BOOT_ATTEMPTS:  # perhaps somebody killed it: that may not happen again
                return
        if isinstance(hello, BootFailed):
            # What could never start will not start the next time: say why instead of a restart storm.
            if not slot.info or slot.failures >= _BOOT_ATTEMPTS:
                self._halt(hello.reason)
            return
        assert isinstance(hello, Ready)
        log.info("%s worker %d is ready after %.1f s", self.name, worker.pid, hello.seconds)
        slot.info, slot.ready = hello.model, True
        self._changed.set()
        self._dispatch()
        with contextlib.suppress(EOFError):
            while True:
                message = await worker.receive()
                if isinstance(message, Report):
                    slot.info = message.model
                    for event in message.events:
                        self._metrics.model_events.labels(self.name, event).inc()
                    continue
                if isinstance(message, Done):
                    slot.failures = 0
                self._hear(slot, message)

    def _hear(self, slot: Slot, message: Progress | Done | Failed) -> None:
        job = slot.held.get(message.job)
        if job is None:
            return  # cancelled meanwhile
        if isinstance(message, Progress):
            if job.on_progress:
                job.on_progress(message)
        else:
            del slot.held[job.id]
            if isinstance(message, Done):
                job.end(message)
            elif message.retry and job.attempts < self._attempts:
                heapq.heappush(self._queue, job)
            else:
                job.end(errors.from_job(message.code, message.message))
            self._dispatch()
        self._watch(slot)

    def _requeue(self, slot: Slot) -> None:
        jobs, slot.held = list(slot.held.values()), {}
        for job in jobs:
            if self._closing.is_set():
                job.end(errors.NotReady("The server is shutting down."))
            elif job.attempts < self._attempts:
                job.alone = True
                heapq.heappush(self._queue, job)
            else:
                job.end(errors.from_job("crashed", f"The {self.name} worker crashed on this recording."))
        self._dispatch()

    def _halt(self, reason: str) -> None:
        """Give up starting workers, unless one is up."""
        if not self.ready:
            log.error("the %s lane is halted: %s", self.name, reason)
            self._refuse(reason)

    def _refuse(self, reason: str) -> None:
        self.halted = reason
        self._changed.set()
        for job in self._queue:
            job.end(errors.NotReady(f"The {self.name} worker cannot start; see /readyz."))
        self._queue.clear()
