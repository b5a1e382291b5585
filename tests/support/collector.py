"""A collector of traces, in threads of this process: what is sent to it by OTLP over HTTP, as spans."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from tests.support.post_receiver import receiving_posts


@dataclass(frozen=True)
class Span:
    """Times are unix seconds."""

    trace_id: str
    span_id: str
    parent_id: str  # empty: it has none
    name: str
    start: float
    end: float
    attributes: dict[str, Any]
    events: list[tuple[str, float, dict[str, Any]]]
    failed: bool
    resource: dict[str, Any]
    kind: str

    @property
    def lane(self) -> str:
        return str(self.attributes.get("diarserve.lane", ""))


@dataclass
class Collector:
    url: str
    spans: list[Span] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)

    def of(self, trace_id: str) -> list[Span]:
        """Those of one trace, by their start."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start)


@contextmanager
def collecting() -> Iterator[Collector]:
    def take(path: str, headers: Message, body: bytes) -> None:
        match headers["Content-Encoding"]:
            case "gzip":
                body = gzip.decompress(body)
            case "deflate":
                body = zlib.decompress(body)
        collector.paths.add(path)
        collector.spans += _spans(body)

    with receiving_posts(take) as url:  # an empty answer is an ExportTraceServiceResponse: all were taken
        collector = Collector(url)
        yield collector


def as_text(spans: Sequence[Span], width: int = 60) -> str:
    """A trace for people to read: the tree of its spans, each with milliseconds and a bar in the time of the whole."""
    begin, end = min(span.start for span in spans), max(span.end for span in spans)
    known = {span.span_id for span in spans}
    lines: list[str] = []

    def show(span: Span, depth: int) -> None:
        first = round((span.start - begin) / (end - begin) * (width - 1))
        last = max(round((span.end - begin) / (end - begin) * (width - 1)), first)
        bar = (" " * first + "█" * (last - first + 1)).ljust(width)
        name = "  " * depth + span.name + (f" ({span.lane})" if span.lane else "")
        times = f"{1e3 * (span.start - begin):8.1f} {1e3 * (span.end - span.start):8.1f}"
        steps = sum(name == "step" for name, _, _ in span.events)
        lines.append(f"{name:<44}{times}  {bar} {f'{steps} steps' if steps else ''}".rstrip())
        for below in spans:
            if below.parent_id == span.span_id:
                show(below, depth + 1)

    for span in spans:
        if span.parent_id not in known:
            show(span, 0)
    return "\n".join([f"{'span':<44}{'from ms':>8} {'ms':>8}", *lines])


def _spans(body: bytes) -> Iterator[Span]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
    from opentelemetry.proto.trace.v1.trace_pb2 import Status

    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _attributes(group.resource.attributes)
        for span in (span for scope in group.scope_spans for span in scope.spans):
            yield Span(
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.name,
                span.start_time_unix_nano / 1e9,
                span.end_time_unix_nano / 1e9,
                _attributes(span.attributes),
                [(event.name, event.time_unix_nano / 1e9, _attributes(event.attributes)) for event in span.events],
                span.status.code == Status.STATUS_CODE_ERROR,
                resource,
                Sent.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
            )


def _attributes(given: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in given}
