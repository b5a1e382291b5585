"""Runs many jobs on one engine, a step at a time, the most urgent first.

Whichever thread brings news (the one that reads messages, one whose step is done, the one that looks after the engine)
works out what follows from it, one thread at a time, and a thread whose step is done goes on with the next. A short
job is so handed from one thread to another only once: every such trip takes about as long as all that is done for it.
"""

from __future__ import annotations

import faulthandler
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

from workers.engine import Engine, JobError, outputs_of
from workers.messages import BatchFill, Cancel, Done, Failed, Progress, Report, Submit
from workers.runtime import devices
from workers.runtime.batching import Batches
from workers.runtime.logs import log_context
from workers.runtime.running import PENDING, Pick, RunningJob, Step
from workers.runtime.step_threads import Inbox, StepThreads

log = logging.getLogger(__name__)

_MAINTENANCE = 5.0  # seconds between two looks at an engine that has nothing to do


class Scheduler:
    def __init__(
        self,
        engine: Engine,
        send: Callable[[object], None],
        *,
        fill: BatchFill | None,
        step_timeout: float | None,  # None: the process is not ours to end
    ) -> None:
        self._engine = engine
        engine.owns_process = step_timeout is not None
        self._send = send
        self._batches = Batches(engine, fill)
        self._step_timeout = step_timeout
        self._log = logging.getLogger(type(engine).__module__)  # an engine's steps are shown by its module's level
        self._jobs: dict[str, RunningJob] = {}
        self._running: list[Step] = []
        self._events: list[str] = []
        self._reported: Mapping[str, Any] = engine.describe()
        self._looked = self._worked = time.monotonic()
        self._slack = min(1.0, (step_timeout or 0.0) / 4)  # seconds by which the deadline may be late
        self._armed: float | None = None  # since when
        self._lock = Lock()  # of all that is above
        self._ended: SimpleQueue[BaseException | None] = SimpleQueue()
        self._threads_ = StepThreads(self._serve)

    def run(self) -> None:
        """Look after the engine until `stop`. Raises the error of a device that cannot be trusted any more."""
        while True:
            try:
                error = self._ended.get(timeout=self._slack or _MAINTENANCE)
            except Empty:
                self._after(self._maintain)
            else:
                if error:
                    raise error
                return

    def stop(self) -> None:
        """There is nobody left to work for."""
        self._ended.put(None)

    def take(self, message: object) -> None:
        """A message from the server."""
        self._after(self._handle, message)

    def close(self) -> None:
        """Drop every job and wait for the steps that run."""
        with self._lock:
            for id in list(self._jobs):
                self._drop(id)
        self._threads_.close()

    def _serve(self, inbox: Inbox[Step]) -> None:
        """The life of a thread of the threads."""
        while step := inbox.get():
            while step:
                step = self._after(self._finish, step, *self._run(step), done=inbox)

    def _after(self, news: Callable[..., None], *what: object, done: Inbox[Step] | None = None) -> Step | None:
        """Begin what some news allow to begin: the thread whose step is done, if there is one, goes on with the first
        of the steps, which is returned, or rests."""
        with self._lock:
            try:
                news(*what)
                steps = list(self._next())
                self._watch()
            except BaseException as error:  # this thread has nobody to tell; `run` has
                self._ended.put(error)
                steps = []
            own = steps.pop(0) if done and steps else None
            if done and not own:
                self._threads_.rest(done)
            for step in steps:
                self._threads_.hand(step)
            return own

    def _handle(self, message: object) -> None:
        match message:
            case Submit(job=id, task=task, request=request, virtual_deadline=virtual_deadline):
                self._jobs[id] = active = RunningJob(id, task, virtual_deadline, self._engine.job(request))
                self._advance(active, None)
            case Cancel(job=id):
                self._drop(id)
            case _:
                log.warning("unknown message %s", type(message).__name__)

    def _advance(self, active: RunningJob, outputs: list[Any] | None, progress: Progress | None = None) -> None:
        """Resume the job with a finished phase's outputs (None at the start) and take its next wave. The progress that
        the phase's end is goes before, unless the job's end says it all."""
        try:
            phase = next(active.steps) if outputs is None else active.steps.send(outputs)
            while not phase:
                phase = active.steps.send([])
        except StopIteration as stop:
            now = time.monotonic()
            self._drop(active.id)
            if progress and progress.partial:
                self._send(progress)
            with log_context(active.task):
                log.debug("done: %d items, %.3f s of steps", active.items, active.busy)
            self._send(Done(active.id, stop.value, active.started or now, now, active.busy, active.degraded))
        except Exception as error:
            self._fail(active, error)
        else:
            active.waiting = deque(enumerate(phase))
            active.phase, active.outputs, active.shown = phase, [PENDING] * len(phase), 0
            active.done = 0
            active.on_fallback.clear()
            active.items += len(phase)
            active.phases += 1
            if progress:
                self._send(progress)

    def _next(self) -> Iterator[Step]:
        while picks := self._batches.pick(self._jobs.values(), self._running):
            first, index, _ = picks[0]
            step = Step(picks, time.monotonic(), index in first.on_fallback)
            for job, _, _ in picks:
                job.started = job.started or step.started
            self._running.append(step)
            yield step

    def _run(self, step: Step) -> tuple[Sequence[Any], BaseException | None, float]:
        """Its outputs, or why there are none, and the seconds that it took."""
        outputs: Sequence[Any] = ()
        error = None
        try:
            items = [item for _, _, item in step.picks]
            with log_context(" ".join(dict.fromkeys(job.task for job, _, _ in step.picks))):
                run = self._engine.fallback if step.on_fallback else self._engine.run
                results = run(items)
                if results is None:
                    raise JobError("out_of_memory", "The recording does not fit into the memory of the device.")
                outputs = outputs_of(results, partial(self._wanted, step))
                self._log.debug("%s: a step of %d in %.3f s", items[0].key, len(items), time.monotonic() - step.started)
            if len(outputs) != len(items) and self._wanted(step):
                raise RuntimeError(f"{len(items)} items gave {len(outputs)} outputs")
        except BaseException as caught:
            error = caught
        return outputs, error, time.monotonic() - step.started

    def _wanted(self, step: Step) -> bool:
        return any(self._jobs.get(job.id) is job for job, _, _ in step.picks)

    def _finish(self, step: Step, outputs: Sequence[Any], error: BaseException | None, seconds: float) -> None:
        self._running.remove(step)
        self._maintain()
        picks = step.picks
        jobs = {id(job): job for job, _, _ in picks if self._jobs.get(job.id) is job}.values()
        if not jobs:
            return  # left in the middle, perhaps
        if error is None:
            for (job, index, _), output in zip(picks, outputs, strict=True):
                job.outputs[index] = output
                job.done += 1
                job.busy += seconds / len(picks)
            for job in jobs:
                progress = Progress(job.id, self._share(job), tuple(job.show()))
                if job.shown == len(job.phase):
                    self._advance(job, job.outputs, progress)
                else:
                    self._send(progress)
        elif not isinstance(error, Exception) or devices.broken(error):
            raise error  # SystemExit and its like, or a GPU that this process cannot use any more
        elif devices.out_of_memory(error) and not step.on_fallback:
            self._relieve(picks)
        elif len({id(job) for job, _, _ in picks}) > 1:
            for job, index, item in reversed(picks):
                job.alone = True
                job.waiting.appendleft((index, item))
        else:
            for job in jobs:
                self._fail(job, error)

    def _relieve(self, picks: Sequence[Pick]) -> None:
        """The device's memory was too small for a step: half the batch, or for a single item the fallback."""
        devices.release()
        self._events.append("out_of_memory")
        if len(picks) > 1:
            self._batches.halve(picks)
        else:
            self._events.append("fallback")
            job, index, _ = picks[0]
            job.on_fallback.add(index)
            job.degraded = True
        log.warning("a step of %d %s does not fit into the device's memory", len(picks), picks[0][2].key)
        for job, index, item in reversed(picks):
            job.waiting.appendleft((index, item))

    def _maintain(self) -> None:
        """Let the engine give memory back, and tell the server what changed."""
        now = time.monotonic()
        if self._jobs:
            self._worked = now
        else:
            self._batches.forget()
            if self._engine.save_memory:
                devices.release()
        self._events += self._engine.maintain(now - self._worked)
        if self._events or now - self._looked >= _MAINTENANCE:
            self._looked = now
            model = self._engine.describe()
            if self._events or model != self._reported:
                self._send(Report(dict(model), tuple(self._events)))
            self._reported, self._events = model, []

    def _share(self, job: RunningJob) -> float:
        key = job.phase[0].key
        spans = self._engine.spans
        begin, end = job.phase[0].span or spans.get(str(key[0] if isinstance(key, tuple) else key), (0.0, 1.0))
        return begin + (end - begin) * job.done / len(job.phase)

    def _fail(self, active: RunningJob, error: Exception) -> None:
        self._drop(active.id)
        if isinstance(error, JobError):
            self._send(Failed(active.id, error.code, error.message, retry=False))
        else:
            with log_context(active.task):
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
