"""What a client of OpenAI's Realtime may set of a transcription session, in both of its dialects. Pure functions.

https://platform.openai.com/docs/guides/realtime-transcription
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diarserve.core.errors import InvalidRequest
from diarserve.core.options import Options, validate
from diarserve.http.openai.options import our_model
from diarserve.live.options import LiveOptions


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class PCM(_Part):
    type: Literal["audio/pcm"]
    rate: Annotated[int, Field(ge=8000, le=48_000)] = 24_000  # OpenAI's is always 24000


class G711(_Part):
    type: Literal["audio/pcmu", "audio/pcma"]


class Transcription(_Part):
    model: Annotated[str, Field(max_length=200)] | None = None
    language: Annotated[str, Field(max_length=20)] | None = None
    languages: list[str] | None = None
    prompt: Annotated[str, Field(max_length=2000)] | None = None
    keywords: Annotated[list[str], Field(max_length=200)] | None = None


class VAD(_Part):
    type: Literal["server_vad", "semantic_vad"]
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    prefix_padding_ms: Annotated[int, Field(ge=0)] | None = None
    silence_duration_ms: Annotated[int, Field(ge=0, le=60_000)] | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None


class Input(_Part):
    format: Annotated[PCM | G711, Field(discriminator="type")] = PCM(type="audio/pcm")
    noise_reduction: dict[str, Any] | None = None
    transcription: Transcription | None = None
    turn_detection: VAD | None = VAD(type="server_vad", threshold=0.5, prefix_padding_ms=300, silence_duration_ms=500)


class Audio(_Part):
    input: Input = Input()


class TranscriptionSession(_Part):
    """As `session.updated` says it."""

    type: Literal["transcription"] = "transcription"
    audio: Audio = Audio()
    include: list[str] | None = None

    def listening(self, accepted: Collection[str] = ()) -> LiveOptions:
        """accepted: the model names that the server takes. Raises InvalidRequest."""
        given, detection = self.audio.input.transcription or Transcription(), self.audio.input.turn_detection
        language = given.language or (given.languages[0] if given.languages and len(given.languages) == 1 else None)
        ours = {
            "language": language,
            "whisper_model": our_model(given.model, accepted),
            "prompt": given.prompt,
            "hotwords": ", ".join(given.keywords or ()) or None,
        }
        # Without interim words: deltas are only ever added to.
        return LiveOptions(validate(Options, ours), False, _endpointing(detection), keep=False)


# Of semantic_vad: what of a sentence is said is not looked at, so that its eagerness is a silence.
_EAGERNESS = {"low": 1.5, "medium": 0.8, "auto": 0.8, "high": 0.4}


def _endpointing(detection: VAD | None) -> float:
    """Seconds."""
    if detection is None:
        return 0.5
    if detection.type == "semantic_vad":
        return _EAGERNESS[detection.eagerness or "auto"]
    asked = 500 if detection.silence_duration_ms is None else detection.silence_duration_ms
    return min(max(asked / 1000, 0.1), 5.0)


def updated(before: TranscriptionSession, update: Any) -> TranscriptionSession:
    """What is not in the update stays as it was. Raises InvalidRequest naming the field, as in
    `session.audio.input.format.type`."""
    if not isinstance(update, dict):
        raise InvalidRequest("session must be an object.", param="session")
    if update.get("type", "transcription") != "transcription":
        message = "Only sessions of the type 'transcription' are held here."
        raise InvalidRequest(message, param="session.type")
    merged = {**before.model_dump(), **{key: value for key, value in update.items() if key != "audio"}}
    audio = {} if update.get("audio") is None else update["audio"]
    given = audio.get("input") if isinstance(audio, dict) else audio
    if given is not None:
        if not isinstance(given, dict):
            raise InvalidRequest("audio.input must be an object.", param="session.audio.input")
        merged["audio"] = {"input": {**merged["audio"]["input"], **given}}
    try:
        return TranscriptionSession.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        # pydantic names the kind of a union among the fields: format.audio/pcm.rate
        path = ".".join(str(part) for part in first["loc"] if "/" not in str(part))
        raise InvalidRequest(f"session.{path}: {first['msg']}.", param=f"session.{path}") from error


_OLD_FORMATS: Mapping[str, dict[str, Any]] = {
    "pcm16": {"type": "audio/pcm"},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
_OLD_NAMES = {
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}


def from_old(update: Any) -> dict[str, Any]:
    """The update of `transcription_session.update` in today's words. Raises InvalidRequest.

    >>> from_old({"input_audio_format": "g711_ulaw", "turn_detection": None})
    {'audio': {'input': {'turn_detection': None, 'format': {'type': 'audio/pcmu'}}}}
    """
    if not isinstance(update, dict):
        raise InvalidRequest("session must be an object.", param="session")
    given = {new: update[old] for old, new in _OLD_NAMES.items() if old in update}
    if (name := update.get("input_audio_format")) is not None:
        if not isinstance(name, str) or name not in _OLD_FORMATS:
            message = f"input_audio_format must be one of {', '.join(_OLD_FORMATS)}."
            raise InvalidRequest(message, param="session.input_audio_format")
        given["format"] = _OLD_FORMATS[name]
    rest = {"include": update["include"]} if "include" in update else {}
    return {"audio": {"input": given}, **rest}


def to_old(session: TranscriptionSession) -> dict[str, Any]:
    shown = session.audio.input
    name = next(name for name, new in _OLD_FORMATS.items() if new["type"] == shown.format.type)
    return {
        "input_audio_format": name,
        "input_audio_transcription": shown.transcription and shown.transcription.model_dump(exclude_none=True),
        "turn_detection": shown.turn_detection and shown.turn_detection.model_dump(exclude_none=True),
        "input_audio_noise_reduction": shown.noise_reduction,
        "include": session.include,
    }
