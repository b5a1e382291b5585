"""Who said what, over HTTP: Whisper and NeMo diarization at the same time, in resident worker processes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diarserve.core.options import Options as Options
    from diarserve.service.python_api import ParallelDiarizationService as ParallelDiarizationService
    from diarserve.transcript.document import Document as Document

__version__ = "0.5.0"

_PUBLIC = {
    "Document": "diarserve.transcript.document",
    "Options": "diarserve.core.options",
    "ParallelDiarizationService": "diarserve.service.python_api",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:  # imported when asked for: they take a second
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
