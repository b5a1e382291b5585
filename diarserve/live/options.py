"""What a client may ask of a live session."""

from __future__ import annotations

from msgspec import Struct

from diarserve.core.options import Options


class LiveOptions(Struct, frozen=True):
    """>>> LiveOptions(Options(language="en", num_speakers=2), endpointing=0.3)"""

    options: Options = Options()  # as of a file; live words heed language, whisper_model, prompt, hotwords, speakers
    interim: bool = True  # whether to tell words before they are final
    endpointing: float = 0.5  # seconds of silence that end an utterance
    keep: bool = True  # whether the document stays after the session, as that of a task
    filename: str = "live.wav"  # of the document
