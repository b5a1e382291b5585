"""Who said what, over HTTP: Whisper and NeMo diarization at the same time, in resident worker processes."""

__version__ = "0.1.0"
