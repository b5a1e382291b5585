"""A job in its trace: the span of its wait, and the span of its run with the steps that its worker tells of."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from diarserve.observe import tracing
from diarserve.observe.tracing import Span
from diarserve.pool.job import Job
from workers.messages import Done, Failed


def followed(job: Job, lane: str) -> Job:
    """The job, part of the current span if there is one: its own spans are made once it has its answer, or nobody wants
    that any more."""
    if span := tracing.current():
        job.span = span
        job.answer.add_done_callback(partial(_ended, job, span, lane))
    return job


def _ended(job: Job, span: Span, lane: str, answer: asyncio.Future[Done[Any]]) -> None:
    if answer.cancelled():
        _lost(job, span, lane, "cancelled")
    elif error := answer.exception():
        if job.failed:
            run = _ran(job, span, lane, job.failed)
            run.fail(tracing.reason(error))
            run.end(job.failed.finished)
        else:
            _lost(job, span, lane, tracing.reason(error))
    else:
        done = answer.result()
        run = _ran(job, span, lane, done)
        run.annotate({"diarserve.busy_seconds": done.busy, "diarserve.degraded": done.degraded})
        if isinstance(model := getattr(done.result, "model", None), str):
            run.annotate({"diarserve.model": model})
        run.end(done.finished)


def _ran(job: Job, span: Span, lane: str, answer: Done[Any] | Failed) -> Span:
    """queue: until its first step begins, whether no worker has it or one that does something else. Then the run,
    named by what was asked for (transcribe, diarize, ...), which is to be ended."""
    wait = span.child("queue", start=job.queued, attributes={"diarserve.lane": lane})
    wait.event("given to a worker", job.given)
    wait.end(max(answer.started, job.queued))
    attributes = {**_attributes(job, lane), "diarserve.steps": answer.step_count}
    run = span.child(_name(job), start=answer.started, attributes=attributes)
    for step in answer.steps:
        about: dict[str, str | bool | int | float] = {
            "kind": step.kind,
            "seconds": step.seconds,
            "items": step.items,
            "jobs": step.jobs,
        }
        about |= {name: True for name in ("on_fallback", "failed") if getattr(step, name)}
        run.event("step", answer.started + step.after, about)
    return run


def _lost(job: Job, span: Span, lane: str, reason: str) -> None:
    """Of a job that no worker told the end of: it still waited, nobody wants it any more, or its worker died."""
    wait = span.child("queue", start=job.queued, attributes={"diarserve.lane": lane})
    if not job.given:
        wait.fail(reason)
        wait.end()
        return
    wait.end(job.given)
    run = span.child(_name(job), start=job.given, attributes=_attributes(job, lane))
    run.fail(reason)
    run.end(time.monotonic())


def _name(job: Job) -> str:
    return type(job.request).__name__.lower()


def _attributes(job: Job, lane: str) -> dict[str, str | bool | int | float]:
    return {"diarserve.lane": lane, "diarserve.job": job.id, "diarserve.attempts": job.attempts}
