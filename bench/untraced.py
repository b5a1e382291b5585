"""`diarserve` with its calls of diarserve.observe.tracing taken out, as if there were no traces: what a server with
traces off is compared with (bench/tracing_cost.py)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from diarserve.observe import tracing
from diarserve.pool import job_spans
from diarserve.pool.job import Job

_NOTHING: AbstractContextManager[Any] = nullcontext()
_nothing: Callable[..., Any] = lambda *_: _NOTHING  # noqa: E731


def _as_it_is(job: Job, lane: str) -> Job:
    return job


def main() -> int:
    tracing.span, tracing.current, tracing.traceparent = _nothing, lambda: None, lambda: ""
    job_spans.followed = _as_it_is
    from diarserve.service import task_span  # only now, lest a module have taken what is replaced by its name

    task_span.task_span = _nothing
    from diarserve.cli.main import main as diarserve

    return diarserve()


if __name__ == "__main__":
    raise SystemExit(main())
