"""A place for one worker in a lane: it starts the worker, talks with it, and when that dies starts the next."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from msgspec.structs import replace

from diarserve.observe.metrics import Metrics
from diarserve.pool import results
from diarserve.pool.job import Job
from diarserve.pool.worker import Start, Worker, end_of
from workers.messages import (
    BootFailed,
    Cancel,
    Done,
    Failed,
    Progress,
    Ready,
    Report,
    WorkerSpec,
)
from workers.messages.live import Awaiting, Heard
from workers.runtime.channel import ProtocolError
from workers.runtime.logs import log_context

log = logging.getLogger(__name__)

_BOOT_ATTEMPTS = 5  # in a row, before a slot is halted
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0  # seconds before the next worker is started; doubled with each failure
_SHORTAGE_FAILURES = 3  # counted at most while the machine is short of something: a try each 1.75 s costs little
_KILL_GRACE = 15.0  # seconds past a step's own deadline before the server kills: a stopped process has no timer
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}  # of descriptors, memory, processes: they pass


class SlotOwner(Protocol):
    """What a slot tells its lane."""

    def on_change(self) -> None:
        """The slot is ready or halted."""

    def on_answer(self, slot: Slot, job: Job, answer: Done[Any] | Failed) -> None:
        """The worker is done with the job."""

    def on_lost(self, slot: Slot, jobs: list[Job]) -> None:
        """The worker died and held these jobs."""


class Slot:
    def __init__(
        self,
        spec: WorkerSpec,
        owner: SlotOwner,
        metrics: Metrics,
        *,
        boot_timeout: float,
        start: Start,
        number: int = 0,
        info: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """number: its place in the lane. info: what an engine of this spec said of itself, if one was up before."""
        self.spec = spec
        self.number = number
        self.ready = False
        self.leaving = False  # it gets no more jobs, and ends with the last that it has
        self.jobs: dict[str, Job] = {}  # what the worker holds, by id
        self.info = info  # what the engine last said of itself
        self.halted: str | None = None  # why no more workers are started
        self.last_error: str | None = None  # why the last start failed; None once a worker is ready
        self.restarts = 0
        self._owner = owner
        self._metrics = metrics
        self._boot_timeout = boot_timeout
        self._start = start
        self._worker: Worker | None = None
        self._boot_failures = 0  # in a row
        self._hung = False  # the worker was killed for its silence
        self._failures = 0  # boots and deaths in a row, with no finished job in between
        self._last_message = 0.0  # when the worker last gave a sign of life or got something to do
        self._silence_timer: asyncio.TimerHandle | None = None
        self._closing = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the worker, once it is ready."""
        return self._worker.pid if self._worker and self.ready else None

    def idle(self, now: float) -> float:
        """Seconds for which the worker has had no job; 0 while it has one, or loads its model."""
        return now - self._last_message if self.ready and not self.jobs else 0.0

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Kill the worker and wait until it is reaped."""
        self._closing.set()
        if self._worker:
            self._worker.kill()
        if self._keeper:
            await asyncio.wait((self._keeper,))
        if self._silence_timer:
            self._silence_timer.cancel()

    def has_room(self, job: Job, width: int) -> bool:
        """Whether the worker may take the job beside those that it holds: `width` jobs, or up to twice as many where
        each that comes is more urgent than all that are there. Live jobs, which last for hours, do not count."""
        others = [other for other in self.jobs.values() if not other.live]
        if self.leaving or not (self.ready and others) or job.live:
            return self.ready and not self.leaving
        if job.alone or any(other.alone for other in others):
            return False
        if len(others) < width:
            return True
        return len(others) < 2 * width and all(job.virtual_deadline < other.virtual_deadline for other in others)

    def submit(self, job: Job) -> None:
        """Give the worker a job. Raises UnicodeError and TypeError for a request that cannot be sent, and OSError where
        its files cannot be opened."""
        assert self._worker is not None
        self._worker.send(job.give())
        self.jobs[job.id] = job
        if job.live:
            self._worker.send(job.live.append(job.id))
        self._note_sign_of_life()

    def append(self, job: Job, waited: bool) -> None:
        """More came of a live job's audio, for which its worker `waited`. Nothing happens where it is another's."""
        if job.live and job.id in self.jobs and self._worker:
            self._worker.send(job.live.append(job.id))
            if waited and all(other.awaits_audio for other in self.jobs.values() if other is not job):
                self._note_sign_of_life()  # nothing was asked of the worker before

    def cancel(self, job: Job) -> None:
        """Nobody waits for the job any more."""
        if self.jobs.pop(job.id, None) and self._worker:
            self._worker.send(Cancel(job.id))
            self._note_sign_of_life()

    async def _keep(self) -> None:
        """The slot's whole life. Whatever goes wrong, the next worker is started, unless none could be."""
        while not (self.halted or self._closing.is_set() or self.leaving):
            try:
                await self._run_worker()
            except Exception as error:
                log.exception("a %s worker was lost by a fault of the server", self.spec.lane)
                self.last_error = _describe(error)
            pause = min(_FIRST_PAUSE * (2 ** min(self._failures, 10) - 1), _LONGEST_PAUSE)
            if not self.halted:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), pause)

    async def _run_worker(self) -> None:
        """One worker, from its start to its death."""
        self._failures += 1  # until it has done a job
        try:
            worker = await self._start(self.spec)
        except Exception as error:
            # A shortage passes, and may last: it never halts the slot.
            shortage = isinstance(error, MemoryError) or getattr(error, "errno", None) in _SHORTAGES
            if shortage:
                self._failures = min(self._failures, _SHORTAGE_FAILURES)
            self._boot_failed(_describe(error), for_good=False, counts=not shortage)
            return
        self._worker = worker
        try:
            if not self._closing.is_set():
                await self._talk(worker)
        except ProtocolError as error:
            log.error("%s worker %d is killed: it sent %s", self.spec.lane, worker.pid, error)
            self.last_error = "it sent what is no message"
        finally:
            self.ready = False
            try:
                code = await worker.close()
            finally:
                self._worker = None
                jobs, self.jobs = list(self.jobs.values()), {}
                self._owner.on_lost(self, jobs)
        if not (self.halted or self._closing.is_set() or self.leaving):
            self.restarts += 1
            reason = end_of(code, started=not self._boot_failures, silent=self._hung)
            self._metrics.restarts.labels(self.spec.lane, reason).inc()
            log.error("%s worker %d is gone (exit code %d); starting another", self.spec.lane, worker.pid, code)

    async def _talk(self, worker: Worker) -> None:
        """From the worker's first message to its last."""
        if not await self._boot(worker):
            return
        with contextlib.suppress(EOFError):
            while True:
                message = await worker.receive()
                if isinstance(message, Report):
                    self.info = message.model
                    self._metrics.count_events(self.spec.lane, message.events, message.steps)
                elif isinstance(message, Progress | Done | Failed | Heard | Awaiting):
                    self._take(message)
                else:
                    raise ProtocolError(f"{type(message).__name__} from a worker that is ready")

    async def _boot(self, worker: Worker) -> bool:
        """Whether the worker became ready."""
        try:
            async with asyncio.timeout(self._boot_timeout):
                message = await worker.receive()
        except TimeoutError:
            self._boot_failed("it took too long to start", for_good=False)
        except EOFError:  # perhaps somebody killed it: that may not happen again
            self._boot_failed("it died while starting", for_good=False)
        else:
            if isinstance(message, Ready):
                log.info("%s worker %d is ready after %.1f s", self.spec.lane, worker.pid, message.seconds)
                self._metrics.boot.labels(self.spec.lane).observe(message.seconds)
                self._boot_failures, self.last_error, self._hung = 0, None, False
                self.info, self.ready, self._last_message = message.model, True, time.monotonic()
                self._owner.on_change()
                return True
            if not isinstance(message, BootFailed):
                raise ProtocolError(f"{type(message).__name__} from a worker that is not ready")
            # What could never start will not start the next time: say why instead of starting it again and again.
            self._boot_failed(message.reason, for_good=not self.info)
        return False

    def _boot_failed(self, reason: str, *, for_good: bool, counts: bool = True) -> None:
        if self._closing.is_set():
            return
        log.error("a %s worker did not start: %s", self.spec.lane, reason)
        self.last_error = reason
        self._boot_failures += counts
        if for_good or self._boot_failures >= _BOOT_ATTEMPTS:
            self.halted = reason
            self._owner.on_change()

    def _take(self, message: Progress | Done[Any] | Failed | Heard | Awaiting) -> None:
        job = self.jobs.get(message.job)
        if job is None:
            return  # cancelled meanwhile
        if isinstance(message, Done):
            results.check(job.request, message.result)
        if isinstance(message, Done | Failed):
            message = replace(message, finished=time.monotonic())
        if isinstance(message, Progress):
            job.begun = True
            if job.on_progress:
                job.on_progress(message)
        elif isinstance(message, Heard | Awaiting):
            results.check_live(job.request, message)
            self._take_live(job, message)
        else:
            if isinstance(message, Done):
                self._failures = 0
            else:
                job.failed = message
                if message.trace:
                    with log_context(job.task):
                        log.error("the %s worker failed: %s", self.spec.lane, message.trace)
            del self.jobs[job.id]
            self._owner.on_answer(self, job, message)
        self._note_sign_of_life()

    def _take_live(self, job: Job, message: Heard | Awaiting) -> None:
        assert job.live
        if isinstance(message, Awaiting):
            job.live.take(message)
        elif job.live.hear(message.output):
            job.attempts, self._failures = 1, 0

    def _note_sign_of_life(self) -> None:
        """(Re)start the clock for the worker's next message. The timer is let run: to move it with every message
        costs more than to look at the clock once it has rung."""
        self._last_message = time.monotonic()
        if not self._silence_timer:
            self._look_again_in(self.spec.step_timeout + _KILL_GRACE)

    def _look_again_in(self, seconds: float) -> None:
        self._silence_timer = asyncio.get_running_loop().call_later(seconds, self._kill_if_silent)

    def _kill_if_silent(self) -> None:
        self._silence_timer = None
        if not self._worker or all(job.awaits_audio for job in self.jobs.values()):
            return  # nothing is asked of it
        left = self._last_message + self.spec.step_timeout + _KILL_GRACE - time.monotonic()
        if left > 0:
            self._look_again_in(left)
        else:
            log.error("%s worker %d gave no sign of life for too long: killed", self.spec.lane, self._worker.pid)
            self._hung = True
            self._worker.kill()


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
