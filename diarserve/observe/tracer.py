"""Whether traces are made, by settings. OpenTelemetry is imported only where they are."""

from __future__ import annotations

from diarserve.core.configuration import ConfigError
from diarserve.core.tracing_settings import Tracing
from diarserve.observe.tracing import Tracer


def make(settings: Tracing) -> Tracer | None:
    """None where traces are off. Raises ConfigError where they are on and OpenTelemetry is not installed."""
    if not settings.enabled:
        return None
    try:
        from diarserve.observe.otlp import OtlpTracer
    except ImportError as error:
        raise ConfigError(f'tracing: {error}: pip install "diarserve[otel]", or leave it off') from error
    return OtlpTracer(settings)
