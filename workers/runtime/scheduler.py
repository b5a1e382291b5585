"""Runs many jobs on one engine, a step at a time: the job with the earliest virtual deadline goes first.

There is no thread that only schedules. What changes something (a message, a step that is done, a look after the engine)
does so under one lock, in the thread that learns of it, which then begins the steps that may run now. A thread whose
step is done goes on with the next one itself: a short job is handed from one thread to another only once, and every
such trip takes about as long as all else that is done for it.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

from workers.engine import Engine, Interim, JobError, outputs_of
from workers.messages import BatchFill, Cancel, Done, Failed, FromWorker, Progress, Report, Submit
from workers.messages.live import Append, Awaiting
from workers.runtime import devices
from workers.runtime.batching import Batches
from workers.runtime.deadline import StepDeadline
from workers.runtime.logs import log_context
from workers.runtime.running import RunningJob, Step, put_back
from workers.runtime.step_counts import StepCounts
from workers.runtime.step_threads import Inbox, StepThreads

log = logging.getLogger(__name__)

_MAINTENANCE = 5.0  # seconds between two looks at an engine that has nothing to do


class Scheduler:
    def __init__(
        self,
        engine: Engine,
        send: Callable[[FromWorker], None],
        *,
        fill: BatchFill | None,
        step_timeout: float | None,  # None: the process is not ours to end
    ) -> None:
        self._engine = engine
        engine.owns_process = step_timeout is not None
        self._send = send
        self._batches = Batches(engine, fill)
        self._log = logging.getLogger(type(engine).__module__)  # an engine's steps are shown by its module's level
        self._jobs: dict[str, RunningJob] = {}
        self._running: list[Step] = []
        self._events: list[str] = []
        self._counts = StepCounts()
        self._reported: Mapping[str, Any] = engine.describe()
        self._maintained = self._worked = time.monotonic()  # the last report, and the last moment with a job
        self._deadline = StepDeadline(step_timeout)
        self._lock = Lock()  # of all that is above
        self._ended: SimpleQueue[BaseException | None] = SimpleQueue()
        self._threads = StepThreads(self._serve)

    def run(self) -> None:
        """Look after the engine until `stop`. Raises the error of a device that cannot be trusted any more."""
        while True:
            try:
                error = self._ended.get(timeout=self._deadline.slack or _MAINTENANCE)
            except Empty:
                self._apply(self._maintain)
            else:
                if error:
                    raise error
                return

    def stop(self) -> None:
        """End `run`: the server is gone."""
        self._ended.put(None)

    def take(self, message: object) -> None:
        """A message from the server."""
        self._apply(self._handle, message)

    def close(self) -> None:
        """Drop every job and wait for the steps that run."""
        with self._lock:
            for id in list(self._jobs):
                self._drop(id)
        self._threads.close()

    def _serve(self, inbox: Inbox[Step]) -> None:
        """What each of the step threads runs."""
        while step := inbox.get():
            while step:
                step = self._go_on(inbox, step, *self._run(step))

    def _apply(self, change: Callable[..., None], *arguments: object) -> None:
        with self._lock:
            for step in self._begun_after(change, *arguments):
                self._threads.submit(step)

    def _go_on(
        self, inbox: Inbox[Step], done: Step, outputs: Sequence[Any], error: BaseException | None, seconds: float
    ) -> Step | None:
        """What the thread whose step is done does next; None: it is idle."""
        with self._lock:
            steps = self._begun_after(self._finish, done, outputs, error, seconds)
            own = steps.pop(0) if steps else None
            if own is None:
                self._threads.became_idle(inbox)
            for step in steps:
                self._threads.submit(step)
            return own

    def _begun_after(self, change: Callable[..., None], *arguments: object) -> list[Step]:
        """Make a change, and the steps that may begin now. The lock must be held."""
        try:
            change(*arguments)
            steps = list(self._begin())
            self._deadline.watch(self._running[0].started if self._running else None)
        except BaseException as error:  # this thread has no caller to raise it to; `run` has
            self._ended.put(error)
            return []
        return steps

    def _handle(self, message: object) -> None:
        match message:
            case Submit(job=id):
                self._jobs[id] = job = RunningJob.of(message, self._engine)
                self._advance(job, None)
            case Append(job=id):
                self._feed(self._jobs.get(id), message)
            case Cancel(job=id):
                self._drop(id)
            case _:
                log.warning("unknown message %s", type(message).__name__)

    def _feed(self, job: RunningJob | None, append: Append) -> None:
        """More audio of a live job, which may have ended."""
        if job is None or job.feed is None:
            return
        job.feed.add(append)
        if job.feed.wanted is not None:
            if (more := job.feed.take(job.id)) is None:
                self._send(Awaiting(job.id, job.feed.samples))
            else:
                job.postpone()
                self._advance(job, more)

    def _advance(self, job: RunningJob, answer: object, progress: Progress | None = None) -> None:
        """Resume the job with the outputs of a finished phase, or None at the start, or an Append where it waits for
        audio, and begin its next phase. `progress` tells of the finished phase; it is left out where the end of the job
        says as much."""
        try:
            phase = job.resume(answer, self._send)
        except StopIteration as stop:
            took = job.took()
            self._drop(job.id)
            if progress and progress.partial:
                self._send(progress)
            with log_context(job.task, traceparent=job.traceparent):
                log.debug("done: %d items, %.3f s of steps", job.items, job.busy)
            steps = tuple(job.step_times or ())
            self._send(Done(job.id, stop.value, took, job.busy, job.degraded, steps, job.step_count))
        except Exception as error:
            self._fail(job, error)
        else:
            job.begin(phase)
            if progress:
                self._send(progress)

    def _begin(self) -> Iterator[Step]:
        while picks := self._batches.pick(self._jobs.values(), self._running):
            job, position, _ = picks[0]
            jobs = list(dict.fromkeys(pick.job for pick in picks))
            step = Step(picks, jobs, time.monotonic(), position in job.on_fallback)
            for job in jobs:
                job.started = job.started or step.started
            self._running.append(step)
            yield step

    def _run(self, step: Step) -> tuple[Sequence[Any], BaseException | None, float]:
        """Its outputs, or why there are none, and the seconds that it took."""
        try:
            items = [pick.item for pick in step.picks]
            tasks = " ".join(dict.fromkeys(job.task for job in step.jobs))
            with log_context(tasks, traceparent=step.jobs[0].traceparent if len(step.jobs) == 1 else None):
                run = self._engine.fallback if step.on_fallback else self._engine.run
                results = run(items)
                if results is None:
                    raise JobError("out_of_memory", "The recording does not fit into the memory of the device.")
                outputs = outputs_of(results, partial(self._wanted, step), partial(self._show, step))
                self._log.debug("%s: a step of %d in %.3f s", step.key, len(items), time.monotonic() - step.started)
            if len(outputs) != len(items) and self._wanted(step):
                raise RuntimeError(f"{len(items)} items gave {len(outputs)} outputs")
        except BaseException as error:
            # No variable of this frame may keep it: its traceback holds the frame, and with this circle all that the
            # step had allocated would stay until the collector looks.
            return (), error, time.monotonic() - step.started
        return outputs, None, time.monotonic() - step.started

    def _wanted(self, step: Step) -> bool:
        """Whether one of its jobs was not cancelled."""
        return any(self._jobs.get(job.id) is job for job in step.jobs)

    def _show(self, step: Step, interim: Interim) -> None:
        """Send the beginning of an item's output, if all items before it are done."""
        job, position, item = step.picks[interim.index]
        with self._lock:
            if item.partial and position == job.shown and self._jobs.get(job.id) is job:
                self._send(Progress(job.id, job.share(self._engine.spans), interim=tuple(interim.output)))

    def _finish(self, step: Step, outputs: Sequence[Any], error: BaseException | None, seconds: float) -> None:
        self._running.remove(step)
        self._counts.add(step, self._batches.capacity(step.key), seconds)
        self._maintain()
        if not self._wanted(step):
            return  # and it may have been left before its end
        if error is None:
            self._deliver(step, outputs, seconds)
        else:
            for job in step.jobs:
                job.note(step, seconds, failed=True)
            self._recover(step, error)

    def _deliver(self, step: Step, outputs: Sequence[Any], seconds: float) -> None:
        """Give the outputs to the jobs that still want them, and advance those whose phase is done."""
        for pick, output in zip(step.picks, outputs, strict=True):
            pick.job.outputs[pick.position] = output
            pick.job.done += 1
            pick.job.busy += seconds / len(step.picks)
        for job in step.jobs:
            if self._jobs.get(job.id) is not job:
                continue
            job.note(step, seconds)
            progress = Progress(job.id, job.share(self._engine.spans), tuple(job.newly_final()))
            if job.shown == len(job.phase):
                self._advance(job, job.outputs, progress)
            else:
                self._send(progress)

    def _recover(self, step: Step, error: BaseException) -> None:
        """Run the items of a failed step again, in another way, or fail its job."""
        if not isinstance(error, Exception) or devices.broken(error):
            raise error  # SystemExit and its like, or a GPU that this process cannot use any more
        if devices.out_of_memory(error) and not step.on_fallback:
            self._use_less_memory(step)
        elif len(step.jobs) > 1:
            for job in step.jobs:
                job.alone = True
            put_back(step.picks)
        else:
            self._fail(step.picks[0].job, error)

    def _use_less_memory(self, step: Step) -> None:
        """Run the step's items again: in half the batch, or a single one on the fallback."""
        log.warning("a step of %d %s does not fit into the device's memory", len(step.picks), step.key)
        devices.release()
        self._events.append("out_of_memory")
        if len(step.picks) > 1:
            self._batches.halve(step.picks)
        else:
            [(job, position, _)] = step.picks
            self._events.append("fallback")
            job.on_fallback.add(position)
            job.degraded = True
        put_back(step.picks)

    def _maintain(self) -> None:
        """Let the engine free memory, and tell the server what changed."""
        now = time.monotonic()
        if self._jobs:
            self._worked = now
        else:
            self._batches.forget()
            if self._engine.save_memory:
                devices.release()
        self._events += self._engine.maintain(now - self._worked)
        if self._events or now - self._maintained >= _MAINTENANCE:
            self._maintained = now
            model, steps = self._engine.describe(), self._counts.take()
            if self._events or steps or model != self._reported:
                self._send(Report(dict(model), tuple(self._events), steps))
            self._reported, self._events = model, []

    def _fail(self, job: RunningJob, error: Exception) -> None:
        took, steps = job.took(), tuple(job.step_times or ())
        self._drop(job.id)
        if isinstance(error, JobError):
            code, message, retry, trace = error.code, error.message, False, ""
        else:
            code, message, retry = "internal", "The model failed on this recording.", True
            trace = "".join(traceback.format_exception(error))
        self._send(Failed(job.id, code, message, retry, trace, took, steps, job.step_count))

    def _drop(self, id: str) -> None:
        job = self._jobs.pop(id, None)
        if job is not None:
            job.waiting.clear()
            job.steps.close()
