"""Spans by OpenTelemetry's SDK, sent by OTLP over HTTP. Imported only where traces are on: it takes memory and time.

Its environment variables hold as everywhere (OTEL_EXPORTER_OTLP_*, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME,
OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_*, OTEL_SPAN_*):
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from diarserve.core.tracing_settings import Tracing
from diarserve.observe.tracing import Attributes, Kind

_KINDS: Mapping[Kind, SpanKind] = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}
_NONE: Attributes = {}
_LAST_SPANS = 2.0  # seconds for what has ended to be sent when the server stops


class OtlpSpan:
    def __init__(self, tracer: trace.Tracer, epoch: int, made: trace.Span) -> None:
        """epoch: unix nanoseconds at which the monotonic clock was at 0; one for a whole trace, lest a clock that is
        set meanwhile put its spans into disorder."""
        self._tracer, self._epoch, self._made = tracer, epoch, made
        self._sampled = made.is_recording()  # asked now: a span that has ended says no, too
        context = made.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    @classmethod
    def begin(
        cls,
        tracer: trace.Tracer,
        epoch: int,
        name: str,
        above: Context,
        start: float | None,
        kind: Kind,
        attributes: Attributes,
    ) -> OtlpSpan:
        moment = _unix(epoch, start)
        return cls(tracer, epoch, tracer.start_span(name, above, _KINDS[kind], attributes, start_time=moment))

    def annotate(self, attributes: Attributes) -> None:
        self._made.set_attributes(attributes)

    def event(self, name: str, at: float | None = None, attributes: Attributes = _NONE) -> None:
        self._made.add_event(name, attributes, _unix(self._epoch, at))

    def fail(self, reason: str) -> None:
        self._made.set_attribute("error.type", reason)
        if reason != "cancelled":
            self._made.set_status(Status(StatusCode.ERROR, reason))

    def child(
        self, name: str, *, start: float | None = None, kind: Kind = "internal", attributes: Attributes = _NONE
    ) -> OtlpSpan:
        if not self._sampled:  # nothing below it will be sent
            return self
        above = trace.set_span_in_context(self._made, Context())
        return OtlpSpan.begin(self._tracer, self._epoch, name, above, start, kind, attributes)

    def end(self, at: float | None = None) -> None:
        self._made.end(_unix(self._epoch, at))


def _unix(epoch: int, moment: float | None) -> int:
    """Nanoseconds."""
    return epoch + (time.monotonic_ns() if moment is None else round(moment * 1e9))


class OtlpTracer:
    def __init__(self, settings: Tracing) -> None:
        version = metadata.version("diarserve")
        resource = Resource.create({"service.version": version})
        if str(resource.attributes["service.name"]).startswith("unknown_service"):  # no variable names it
            resource = resource.merge(Resource({"service.name": "diarserve"}))
        sampler = None if settings.ratio is None else ParentBased(TraceIdRatioBased(settings.ratio))
        with _sdk_enabled():
            # Not the global one, which belongs to the program that this may be part of.
            self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        endpoint = f"{settings.endpoint.rstrip('/')}/v1/traces" if settings.endpoint else None
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("diarserve", version)
        self._propagator = TraceContextTextMapPropagator()

    def begin(
        self,
        name: str,
        *,
        carrier: Mapping[str, str],
        start: float | None = None,
        kind: Kind = "internal",
        attributes: Attributes = _NONE,
    ) -> OtlpSpan:
        above = self._propagator.extract(carrier, Context())
        return OtlpSpan.begin(self._tracer, time.time_ns() - time.monotonic_ns(), name, above, start, kind, attributes)

    def close(self) -> None:
        # In a thread that nothing waits for: where the collector does not answer, it takes half a minute.
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(_LAST_SPANS)


@contextmanager
def _sdk_enabled() -> Iterator[None]:
    """While the provider is made, which is asked for: workers.runtime.privacy has switched the SDK off, for libraries
    of models that would use it without being asked."""
    disabled = os.environ.pop("OTEL_SDK_DISABLED", None)
    try:
        yield
    finally:
        if disabled is not None:
            os.environ["OTEL_SDK_DISABLED"] = disabled
