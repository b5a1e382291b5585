"""Who said what, over HTTP: Whisper and NeMo diarization at the same time, in resident worker processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diarserve.service.python_api import ParallelDiarizationService as ParallelDiarizationService

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "ParallelDiarizationService":  # imported when asked for: workers import this package too
        from diarserve.service.python_api import ParallelDiarizationService

        return ParallelDiarizationService
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
