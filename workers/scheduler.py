"""Runs many jobs on one engine, a step at a time, the most urgent first."""

from __future__ import annotations

import faulthandler
import logging
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import takewhile
from queue import Empty, SimpleQueue
from typing import Any

from workers import devices
from workers.active import PENDING, Active, Step, StepEnd
from workers.engine import Engine, JobError, Unit, outputs_of
from workers.logs import about
from workers.messages import Cancel, Done, Failed, Fill, Progress, Report, Submit

log = logging.getLogger(__name__)

STOP = object()  # in the inbox: there is nobody left to work for
_HEAD_START = 5.0  # seconds of urgency
_TEND = 5.0  # seconds between two looks at an engine that has nothing to do


class Scheduler:
    def __init__(
        self,
        engine: Engine,
        inbox: SimpleQueue[object],
        send: Callable[[object], None],
        *,
        fill: Fill | None,
        step_timeout: float | None,  # None: the process is not ours to end
    ) -> None:
        self._engine = engine
        self._inbox = inbox  # messages from the server, and the ends of our own steps
        self._send = send
        self._fill = fill
        self._step_timeout = step_timeout
        self._log = logging.getLogger(type(engine).__module__)  # an engine's steps are shown by its module's level
        self._jobs: dict[str, Active] = {}
        self._running: list[Step] = []
        self._caps: dict[object, int] = {}  # the largest batches that fit into the device's memory, by the units' key
        self._events: list[str] = []
        self._reported: Mapping[str, Any] = engine.describe()
        self._looked = self._worked = time.monotonic()
        self._slack = min(1.0, (step_timeout or 0.0) / 4)  # seconds by which the deadline may be late
        self._armed: float | None = None  # since when
        self._pool = ThreadPoolExecutor(engine.parallel + 1, thread_name_prefix="step")

    def run(self) -> None:
        """Serve the inbox until STOP. Raises the error of a device that cannot be trusted any more."""
        while True:
            try:
                message = self._inbox.get(timeout=_TEND if self._armed is None else self._slack)
            except Empty:
                self._tend()
                self._watch()
                continue
            if message is STOP:
                return
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
                self._jobs[id] = active = Active(id, task, due, self._engine.job(request))
                self._advance(active, None)
            case Cancel(job=id):
                self._drop(id)
            case StepEnd():
                self._finish(message)
            case _:
                log.warning("unknown message %s", type(message).__name__)

    def _advance(self, active: Active, outputs: list[Any] | None, progress: Progress | None = None) -> None:
        """Resume the job with a finished wave's outputs (None at the start) and take its next wave. The progress that
        the wave's end is goes before, unless the job's end says it all."""
        try:
            wave = next(active.steps) if outputs is None else active.steps.send(outputs)
            while not wave:
                wave = active.steps.send([])
        except StopIteration as stop:
            now = time.monotonic()
            self._drop(active.id)
            if progress and progress.partial:
                self._send(progress)
            with about(active.task):
                log.debug("done: %d units, %.3f s of steps", active.units, active.busy)
            self._send(Done(active.id, stop.value, active.started or now, now, active.busy, active.degraded))
        except Exception as error:
            self._fail(active, error)
        else:
            active.waiting = deque(enumerate(wave))
            active.wave, active.outputs, active.shown = wave, [PENDING] * len(wave), 0
            active.done = 0
            active.lesser.clear()
            active.units += len(wave)
            active.waves += 1
            if progress:
                self._send(progress)

    def _dispatch(self) -> None:
        while ready := self._ready():
            if not self._room(ready[0]):
                return
            lesser = ready[0].lesser_first
            step = Step(self._pick(ready), time.monotonic(), lesser)
            for job, _, _ in step.picks:
                job.started = job.started or step.started
            self._running.append(step)
            self._pool.submit(self._step, step)

    def _ready(self) -> list[Active]:
        """Jobs with a unit that may run now, the most urgent first. Behind one that may not yet run, none may: or the
        steps of the less urgent would overlap for ever, and its turn never come."""
        ready = sorted((job for job in self._jobs.values() if job.waiting), key=self._urgency)
        running = [step.picks[0][2].key for step in self._running]
        if running:
            ready = list(takewhile(lambda job: self._engine.admits(job.waiting[0][1].key, running), ready))
        return ready

    def _urgency(self, job: Active) -> float:
        """A job that has hardly begun goes a little before: those that came together then share their later steps."""
        return job.due - _HEAD_START if self._fill and job.waves == 1 else job.due

    def _room(self, job: Active) -> bool:
        """A thread for each of `parallel` steps, and one more for a job that is more urgent than all that run."""
        if len(self._running) < self._engine.parallel:
            return True
        running = [job for step in self._running for job, _, _ in step.picks]
        return len(self._running) == self._engine.parallel and job.due < min(other.due for other in running)

    def _pick(self, ready: list[Active]) -> list[tuple[Active, int, Unit]]:
        """Units of the most urgent job; where batches may be filled, of the jobs behind it too."""
        first = ready[0]
        key = first.waiting[0][1].key
        batch = 1 if first.lesser_first else min(self._engine.batch(key), self._caps.get(key, sys.maxsize))
        jobs = [first]
        room = batch
        if self._fill and not (first.alone or first.lesser_first):
            jobs += [job for job in ready[1:] if self._shares(job, first)]
            if len(jobs) > 1:
                room = min(max(batch, self._fill.units), self._caps.get(key, sys.maxsize))
        # An even share for every thread, so that none idles at the end of a wave.
        room = min(room, math.ceil(sum(len(job.waiting) for job in jobs) / self._engine.parallel))
        picks: list[tuple[Active, int, Unit]] = []
        for job in jobs:
            fit = sum(1 for _ in takewhile(lambda item: item[1].key == key, job.waiting))
            count = min(batch, room - len(picks), fit)
            picks += [(job, *job.waiting.popleft()) for _ in range(count)]
        return picks

    def _shares(self, job: Active, first: Active) -> bool:
        """Whether the job's units may fill up a step of the most urgent one's."""
        assert self._fill is not None
        return (
            job.due - first.due <= self._fill.within
            and not (job.alone or job.lesser_first)
            and job.waiting[0][1].key == first.waiting[0][1].key
            and self._engine.alike(job.waiting[0][1], first.waiting[0][1])
        )

    def _step(self, step: Step) -> None:
        outputs, error = None, None
        try:
            units = [unit for _, _, unit in step.picks]
            with about(" ".join(dict.fromkeys(job.task for job, _, _ in step.picks))):
                run = self._engine.fallback if step.lesser else self._engine.run
                results = run(units)
                if results is None:
                    raise JobError("out_of_memory", "The recording does not fit into the memory of the device.")
                outputs = list(outputs_of(results, partial(self._wanted, step)))
                self._log.debug("%s: a step of %d in %.3f s", units[0].key, len(units), time.monotonic() - step.started)
            if len(outputs) != len(units) and self._wanted(step):
                raise RuntimeError(f"{len(units)} units gave {len(outputs)} outputs")
        except BaseException as caught:  # it must reach the loop: this thread has nobody else to tell
            error = caught
        self._inbox.put(StepEnd(step, outputs, error, time.monotonic() - step.started))

    def _wanted(self, step: Step) -> bool:
        return any(self._jobs.get(job.id) is job for job, _, _ in step.picks)

    def _finish(self, end: StepEnd) -> None:
        self._running.remove(end.step)
        self._tend()
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
                progress = Progress(job.id, self._share(job), tuple(job.show()))
                if job.shown == len(job.wave):
                    self._advance(job, job.outputs, progress)
                else:
                    self._send(progress)
        elif not isinstance(end.error, Exception) or devices.broken(end.error):
            raise end.error  # SystemExit and its like, or a GPU that this process cannot use any more
        elif devices.out_of_memory(end.error) and not end.step.lesser:
            self._relieve(picks)
        elif len({id(job) for job, _, _ in picks}) > 1:
            for job, index, unit in reversed(picks):
                job.alone = True
                job.waiting.appendleft((index, unit))
        else:
            for job in jobs:
                self._fail(job, end.error)

    def _relieve(self, picks: list[tuple[Active, int, Unit]]) -> None:
        """The device's memory was too small for a step: half the batch, or for a single unit the fallback."""
        devices.release()
        self._events.append("out_of_memory")
        if len(picks) > 1:
            self._caps[picks[0][2].key] = len(picks) // 2
        else:
            self._events.append("fallback")
            job, index, _ = picks[0]
            job.lesser.add(index)
            job.degraded = True
        log.warning("a step of %d %s does not fit into the device's memory", len(picks), picks[0][2].key)
        for job, index, unit in reversed(picks):
            job.waiting.appendleft((index, unit))

    def _tend(self) -> None:
        """Let the engine give memory back, and tell the server what changed."""
        now = time.monotonic()
        if self._jobs:
            self._worked = now
        else:
            self._caps.clear()  # perhaps others left the device meanwhile
            if self._engine.save_memory:
                devices.release()
        self._events += self._engine.tend(now - self._worked)
        if self._events or now - self._looked >= _TEND:
            self._looked = now
            model = self._engine.describe()
            if self._events or model != self._reported:
                self._send(Report(dict(model), tuple(self._events)))
            self._reported, self._events = model, []

    def _share(self, job: Active) -> float:
        key = job.wave[0].key
        spans = self._engine.spans
        begin, end = job.wave[0].span or spans.get(str(key[0] if isinstance(key, tuple) else key), (0.0, 1.0))
        return begin + (end - begin) * job.done / len(job.wave)

    def _fail(self, active: Active, error: Exception) -> None:
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
        """Arm the process's own deadline on its oldest step: faulthandler's timer needs no GIL, prints where the step
        hangs, and exits; the server sees the death and tries the jobs elsewhere. Arming it starts a thread, which is
        half of what a short job costs: it is left alone for a while, and set late by as much."""
        now = time.monotonic()
        if self._step_timeout is None or (self._armed is not None and now - self._armed < self._slack):
            return
        if self._running:
            left = self._running[0].started + self._step_timeout + self._slack - now
            faulthandler.dump_traceback_later(max(left, 0.001), exit=True, file=2)
            self._armed = now
        elif self._armed is not None:
            faulthandler.cancel_dump_traceback_later()
            self._armed = None
