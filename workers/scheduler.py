"""Runs many jobs on one engine, a step at a time, the most urgent first."""

from __future__ import annotations

import faulthandler
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any

from workers.engine import Engine, Job, JobError, Unit, outputs_of
from workers.logs import about
from workers.messages import Cancel, Done, Failed, Progress, Submit

log = logging.getLogger(__name__)

_PENDING = object()
STOP = object()  # in the inbox: there is nobody left to work for


@dataclass(slots=True, eq=False)
class _Active:
    """A job under way. `waiting` and `outputs` belong to its present wave."""

    id: str
    task: str
    due: float
    steps: Job
    waiting: deque[tuple[int, Unit]] = field(default_factory=deque)
    wave: list[Unit] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)  # _PENDING until a unit is done
    shown: int = 0  # units from the wave's start whose outputs were shown, if they are partial
    done: int = 0  # units of this wave
    units: int = 0  # of all waves
    started: float | None = None
    busy: float = 0.0
    alone: bool = False  # after a shared step failed: share no step, so that the culprit fails by itself

    def show(self) -> Iterator[Any]:
        """Outputs that became final: those with nothing unfinished before them."""
        while self.shown < len(self.wave) and self.outputs[self.shown] is not _PENDING:
            if self.wave[self.shown].partial:
                yield self.outputs[self.shown]
            self.shown += 1


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    picks: list[tuple[_Active, int, Unit]]
    started: float


@dataclass(frozen=True, slots=True)
class _StepEnd:
    step: _Step
    outputs: list[Any] | None
    error: BaseException | None
    seconds: float


class Scheduler:
    def __init__(
        self,
        engine: Engine,
        inbox: SimpleQueue[object],
        send: Callable[[object], None],
        *,
        fill: bool,
        step_timeout: float | None,  # None: the process is not ours to end
    ) -> None:
        self._engine = engine
        self._inbox = inbox  # messages from the server, and the ends of our own steps
        self._send = send
        self._fill = fill
        self._step_timeout = step_timeout
        self._log = logging.getLogger(type(engine).__module__)  # an engine's steps are shown by its module's level
        self._jobs: dict[str, _Active] = {}
        self._running: list[_Step] = []
        self._pool = ThreadPoolExecutor(engine.parallel + 1, thread_name_prefix="step")

    def run(self) -> None:
        """Serve the inbox until STOP."""
        for message in iter(self._inbox.get, STOP):
            self._handle(message)
            if self._inbox.empty():  # take in all that has come before choosing the next step
                self._dispatch()
                self._watch()

    def close(self) -> None:
        """Drop every job and wait for the steps that run."""
        for id in list(self._jobs):
            self._drop(id)
        self._pool.shutdown()

    def _handle(self, message: object) -> None:
        match message:
            case Submit(job=id, task=task, request=request, due=due):
                self._jobs[id] = active = _Active(id, task, due, self._engine.job(request))
                self._advance(active, None)
            case Cancel(job=id):
                self._drop(id)
            case _StepEnd():
                self._finish(message)
            case _:
                log.warning("unknown message %s", type(message).__name__)

    def _advance(self, active: _Active, outputs: list[Any] | None) -> None:
        """Resume the job with a finished wave's outputs (None at the start) and take its next wave."""
        try:
            wave = next(active.steps) if outputs is None else active.steps.send(outputs)
            while not wave:
                wave = active.steps.send([])
        except StopIteration as stop:
            now = time.monotonic()
            self._drop(active.id)
            with about(active.task):
                log.info("done: %d units, %.3f s of steps", active.units, active.busy)
            self._send(Done(active.id, stop.value, active.started or now, now, active.busy))
        except Exception as error:
            self._fail(active, error)
        else:
            active.waiting = deque(enumerate(wave))
            active.wave, active.outputs, active.shown = wave, [_PENDING] * len(wave), 0
            active.done = 0
            active.units += len(wave)

    def _dispatch(self) -> None:
        while ready := sorted((job for job in self._jobs.values() if job.waiting), key=lambda job: job.due):
            if not self._room(ready[0]):
                return
            step = _Step(self._pick(ready), time.monotonic())
            for job, _, _ in step.picks:
                job.started = job.started or step.started
            self._running.append(step)
            self._pool.submit(self._step, step)

    def _room(self, job: _Active) -> bool:
        """A thread for each of `parallel` steps, and one more for a job that is more urgent than all that run."""
        if len(self._running) < self._engine.parallel:
            return True
        running = [job for step in self._running for job, _, _ in step.picks]
        return len(self._running) == self._engine.parallel and job.due < min(other.due for other in running)

    def _pick(self, ready: list[_Active]) -> list[tuple[_Active, int, Unit]]:
        """Units of the most urgent job; where batches may be filled, of the jobs behind it too."""
        first = ready[0]
        key = first.waiting[0][1].key
        batch = self._engine.batch(key)
        if not self._fill:
            # An even share for every thread, so that none idles at the end of a wave.
            batch = min(batch, math.ceil(len(first.waiting) / self._engine.parallel))
        picks: list[tuple[_Active, int, Unit]] = []
        for job in ready if self._fill and not first.alone else [first]:
            while job.waiting and len(picks) < batch and job.waiting[0][1].key == key:
                if job.alone and job is not first:
                    break
                picks.append((job, *job.waiting.popleft()))
        return picks

    def _step(self, step: _Step) -> None:
        outputs, error = None, None
        try:
            units = [unit for _, _, unit in step.picks]
            with about(" ".join(dict.fromkeys(job.task for job, _, _ in step.picks))):
                outputs = list(outputs_of(self._engine.run(units), partial(self._wanted, step)))
                self._log.debug("%s: a step of %d in %.3f s", units[0].key, len(units), time.monotonic() - step.started)
            if len(outputs) != len(units) and self._wanted(step):
                raise RuntimeError(f"{len(units)} units gave {len(outputs)} outputs")
        except BaseException as caught:  # it must reach the loop: this thread has nobody else to tell
            error = caught
        self._inbox.put(_StepEnd(step, outputs, error, time.monotonic() - step.started))

    def _wanted(self, step: _Step) -> bool:
        return any(self._jobs.get(job.id) is job for job, _, _ in step.picks)

    def _finish(self, end: _StepEnd) -> None:
        self._running.remove(end.step)
        picks = end.step.picks
        jobs = {id(job): job for job, _, _ in picks if self._jobs.get(job.id) is job}.values()
        if not jobs:
            return  # left in the middle, perhaps
        if end.error is None:
            assert end.outputs is not None
            for (job, index, _), output in zip(picks, end.outputs, strict=True):
                job.outputs[index] = output
                job.done += 1
                job.busy += end.seconds / len(picks)
            for job in jobs:
                self._send(Progress(job.id, self._share(job), tuple(job.show())))
                if job.shown == len(job.wave):
                    self._advance(job, job.outputs)
        elif not isinstance(end.error, Exception):
            raise end.error  # MemoryError is an Exception; this is SystemExit and its like
        elif len({id(job) for job, _, _ in picks}) > 1:
            for job, index, unit in reversed(picks):
                job.alone = True
                job.waiting.appendleft((index, unit))
        else:
            for job in jobs:
                self._fail(job, end.error)

    def _share(self, job: _Active) -> float:
        key = job.wave[0].key
        begin, end = self._engine.spans.get(str(key[0] if isinstance(key, tuple) else key), (0.0, 1.0))
        return begin + (end - begin) * job.done / len(job.wave)

    def _fail(self, active: _Active, error: Exception) -> None:
        self._drop(active.id)
        if isinstance(error, JobError):
            self._send(Failed(active.id, error.code, error.message, retry=False))
        else:
            with about(active.task):
                log.error("failed", exc_info=error)
            self._send(Failed(active.id, "internal", "The model failed on this recording.", retry=True))

    def _drop(self, id: str) -> None:
        active = self._jobs.pop(id, None)
        if active is not None:
            active.waiting.clear()
            active.steps.close()

    def _watch(self) -> None:
        """Arm the process's own deadline on its oldest step: faulthandler's timer needs no GIL, prints where
        the step hangs, and exits; the server sees the death and tries the jobs elsewhere."""
        if self._step_timeout is None:
            return
        if self._running:
            left = self._running[0].started + self._step_timeout - time.monotonic()
            faulthandler.dump_traceback_later(max(left, 0.001), exit=True, file=2)
        else:
            faulthandler.cancel_dump_traceback_later()
