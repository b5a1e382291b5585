"""Whether a recording is good enough to know a voice by. Pure functions."""

from __future__ import annotations

from diarserve.core.errors import Unprocessable
from diarserve.core.settings import Voices
from workers.messages import Embeddings, Voice

LEAST_SPEECH = 1.0  # seconds of a reference
ALONE = 0.85  # share of the speech that one speaker has in a recording of one speaker; the diarizer errs at edges


def one_voice(answer: Embeddings) -> tuple[Voice | None, bool]:
    """The voice of the speaker who speaks longest, unless that is too short, and whether nobody else does."""
    longest = max(answer.voices, key=lambda voice: voice.seconds, default=None)
    if longest is None or longest.seconds < LEAST_SPEECH:
        return None, True
    return longest, longest.seconds >= ALONE * sum(voice.seconds for voice in answer.voices)


def require(answer: Embeddings, settings: Voices) -> Voice:
    """The one voice of a sample. Raises Unprocessable, with a code that says what to do."""
    voice, alone = one_voice(answer)
    seconds = voice.seconds if voice else 0.0
    if not alone:
        message = f"There are {len(answer.voices)} speakers: send a recording in which only this person speaks."
        raise Unprocessable(message, code="several_speakers", param="file")
    if voice is None or seconds < settings.min_seconds:
        message = f"There are only {seconds:.1f} s of speech: send at least {settings.min_seconds:g} s."
        raise Unprocessable(message, code="too_little_speech", param="file")
    if answer.clipping > settings.max_clipping:
        message = f"{answer.clipping:.1%} of the recording is clipped: record it again, less loud."
        raise Unprocessable(message, code="clipped", param="file")
    return voice
