"""Whether traces are made, by settings. OpenTelemetry is imported only where they are."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from diarserve.core.configuration import ConfigError
from diarserve.core.tracing_settings import Tracing
from diarserve.observe.tracing import Tracer

log = logging.getLogger(__name__)

_GRPC_PORT = ":4317"


def make(settings: Tracing) -> Tracer | None:
    """None where traces are off. Raises ConfigError where they are on and OpenTelemetry is not installed."""
    if not settings.enabled:
        return None
    try:
        from diarserve.observe.otlp import OtlpTracer
    except ImportError as error:
        raise ConfigError(f'tracing: {error}: pip install "diarserve[otel]", or leave it off') from error
    for doubt in doubts(settings):
        log.warning("traces: %s", doubt)
    return OtlpTracer(settings)


def endpoint(settings: Tracing, environment: Mapping[str, str] = os.environ) -> str:
    """Where traces go; empty: to OpenTelemetry's default, port 4318 of this machine."""
    variables = (environment.get(f"OTEL_EXPORTER_OTLP_{name}") for name in ("TRACES_ENDPOINT", "ENDPOINT"))
    return settings.endpoint or next(filter(None, variables), "")


def doubts(settings: Tracing, environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """What is set that a collector of OTLP over HTTP will not understand, and what to do.

    >>> list(doubts(Tracing(), {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}))
    []
    """
    variables = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    name = next((name for name in variables if environment.get(name)), None)
    if name and environment[name] != "http/protobuf":
        yield f"{name}={environment[name]} is not supported: they are sent as http/protobuf all the same"
    if urlsplit(address := endpoint(settings, environment)).netloc.endswith(_GRPC_PORT):
        yield f"{address} is mostly a collector's port for gRPC: http/protobuf is mostly taken at port 4318"
