"""What turns a recording into transcripts: models of this process's own (local.py), or a server (remote.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from diarserve.cli.progress import Bar
from diarserve.cli.targets import Recording
from diarserve.core.types import Format


class Transcriber(Protocol):
    at_once: int  # recordings

    async def transcribe(self, recording: Recording, formats: Sequence[Format], bar: Bar) -> Mapping[Format, bytes]:
        """Raises ServiceError, ClientError or OSError for a recording that cannot be."""
        ...
