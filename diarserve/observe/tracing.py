"""Traces: where the time of a request went, as spans. Off unless `[tracing]` or OTEL_* variables say where to send them
(docs/tracing.md); then diarserve.observe.tracer makes a `Tracer`.

A request, a task and a callback begin a span with the `Tracer`. All else is part of the span that is current, if there
is one, so that it costs one look at a context variable where traces are off:

    with tracing.span("merge"):
        ...
    if parent := tracing.current():
        parent.child("queue", start=queued).end(started)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Literal, Protocol

from workers.runtime.logs import log_context

Attributes = Mapping[str, str | bool | int | float]
Kind = Literal["server", "client", "internal"]

_NONE: Attributes = {}
_NOTHING = nullcontext[None]()


class Span(Protocol):
    """Times are seconds on the monotonic clock, which workers of this machine share; None: now."""

    @property
    def traceparent(self) -> str:
        """https://www.w3.org/TR/trace-context/#traceparent-header"""
        ...

    def annotate(self, attributes: Attributes) -> None: ...

    def event(self, name: str, at: float | None = None, attributes: Attributes = _NONE) -> None: ...

    def fail(self, reason: str) -> None:
        """reason: a code or the name of an exception, never a text that might quote a recording."""
        ...

    def child(
        self, name: str, *, start: float | None = None, kind: Kind = "internal", attributes: Attributes = _NONE
    ) -> Span: ...

    def end(self, at: float | None = None) -> None: ...


class Tracer(Protocol):
    def begin(
        self,
        name: str,
        *,
        carrier: Mapping[str, str],
        start: float | None = None,
        kind: Kind = "internal",
        attributes: Attributes = _NONE,
    ) -> Span:
        """A span that continues the trace which `carrier`, HTTP's headers or a part of them, tells of (`traceparent`,
        `tracestate`), or begins one."""
        ...

    def close(self) -> None:
        """Send what has ended, for a second or two. Blocks: call it in a thread."""
        ...


_current: ContextVar[Span | None] = ContextVar("span", default=None)


def current() -> Span | None:
    """The span that this code is part of; None where traces are off."""
    return _current.get()


def traceparent() -> str:
    """That of the current span; empty where there is none."""
    span = _current.get()
    return span.traceparent if span else ""


def span(name: str, attributes: Attributes = _NONE) -> AbstractContextManager[Span | None]:
    """A part of the current span, for as long as the block lasts; nothing where there is none."""
    parent = _current.get()
    return inside(parent.child(name, attributes=attributes)) if parent else _NOTHING


@contextmanager
def inside(span: Span) -> Iterator[Span]:
    """The span is current, and named by log lines, for as long as the block lasts, and ends with it."""
    token = _current.set(span)
    try:
        with log_context(traceparent=span.traceparent):
            yield span
    except BaseException as error:
        span.fail(reason(error))
        raise
    finally:
        _current.reset(token)
        span.end()


def reason(error: BaseException) -> str:
    """What Span.fail is told of an exception: a ServiceError's code, `cancelled`, or the exception's name."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return str(getattr(error, "code", "")) or type(error).__name__
