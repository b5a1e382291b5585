"""A job in its trace: the span of its wait, and the span of its run with the steps that its worker tells of."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from diarserve.observe import tracing
from diarserve.observe.tracing import Span
from diarserve.pool.job import Job
from workers.messages import Done


def followed(job: Job, lane: str) -> Job:
    """The job, part of the current span if there is one: its own spans are made once it has its answer, or nobody wants
    that any more."""
    if span := tracing.current():
        job.span = span
        job.answer.add_done_callback(partial(_ended, job, span, lane))
    return job


def _ended(job: Job, span: Span, lane: str, answer: asyncio.Future[Done[Any]]) -> None:
    if answer.cancelled():
        _failed(job, span, lane, "cancelled")
    elif error := answer.exception():
        _failed(job, span, lane, tracing.reason(error))
    else:
        _done(job, span, lane, answer.result())


def _done(job: Job, span: Span, lane: str, answer: Done[Any]) -> None:
    """queue: until its first step begins, whether no worker has it or one that does something else. Then the run,
    named by what was asked for: transcribe, diarize, ..."""
    wait = span.child("queue", start=job.queued, attributes={"diarserve.lane": lane})
    wait.event("given to a worker", job.given)
    wait.end(max(answer.started, job.queued))
    attributes: dict[str, str | bool | int | float] = {
        **_attributes(job, lane),
        "diarserve.busy_seconds": answer.busy,
        "diarserve.steps": answer.step_count,
        "diarserve.degraded": answer.degraded,
    }
    if isinstance(model := getattr(answer.result, "model", None), str):
        attributes["diarserve.model"] = model
    run = span.child(_name(job), start=answer.started, attributes=attributes)
    for step in answer.steps:
        about: dict[str, str | bool | int | float] = {
            "kind": step.kind,
            "seconds": step.seconds,
            "items": step.items,
            "jobs": step.jobs,
        }
        run.event("step", answer.started + step.after, {**about, "on_fallback": True} if step.on_fallback else about)
    run.end(answer.finished)


def _failed(job: Job, span: Span, lane: str, reason: str) -> None:
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
