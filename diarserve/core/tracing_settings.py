"""What can be set of traces."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from diarserve.core.section import Section


class Tracing(Section):
    """Where traces are sent, by OTLP over HTTP (docs/tracing.md). OpenTelemetry's variables set everything else."""

    # OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT switch it on too: diarserve.core.configuration.
    enabled: bool = False
    endpoint: Annotated[str, Field(pattern=r"^(https?://[^/\s]+\S*)?$")] = ""  # http://127.0.0.1:4318
    # Share of the traces that begin here; one that a client began is sent if its sender says so. By default all, or as
    # OTEL_TRACES_SAMPLER says.
    ratio: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _is_on_with_an_endpoint(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("endpoint"):
            return {"enabled": True, **values}
        return values
