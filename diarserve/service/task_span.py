"""The span of a task, in the trace of the request that brought it."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

from diarserve.observe import tracing
from diarserve.observe.tracing import Span, Tracer
from diarserve.tasks.task import Task


def task_span(tracer: Tracer | None, task: Task) -> AbstractContextManager[Span | None]:
    """For as long as the task is worked on. A durable task's request is over by then, and may have been an earlier
    server's: the task's row kept its trace. Its span begins when it was accepted, and has its wait in it."""
    if tracer is None:
        return nullcontext()
    about = {"diarserve.task.id": task.id, "diarserve.priority": task.priority}
    if request := tracing.current():
        return tracing.inside(request.child("task", attributes=about))
    accepted = time.monotonic() - max(time.time() - task.created_at, 0.0)
    span = tracer.begin("task", carrier={"traceparent": task.traceparent}, start=accepted, attributes=about)
    span.child("queue", start=accepted, attributes={"diarserve.lane": "backlog"}).end()
    return tracing.inside(span)
