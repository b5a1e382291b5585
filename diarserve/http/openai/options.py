"""What a client of OpenAI may ask of a transcription, and what of it is honoured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from diarserve.core.options import Long, Options, Text

# OpenAI's own model names mean the configured model; others ask for a model by its name.
_THEIRS = ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-transcribe-diarize", "default")

Shape = Literal["json", "text", "srt", "vtt", "verbose_json", "diarized_json"]


class OpenAIOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    model: Text = None
    language: Text = None
    prompt: Long = None
    response_format: Annotated[Shape, BeforeValidator(lambda value: value or "json")] = "json"
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.0
    stream: bool = False
    chunking_strategy: str | None = None  # chunks are always cut at silence
    granularities: list[Literal["word", "segment"]] = Field(["segment"], alias="timestamp_granularities[]")
    include: list[str] = Field(default_factory=list, alias="include[]")
    known_speaker_names: list[str] = Field(default_factory=list, alias="known_speaker_names[]")
    known_speaker_references: list[str] = Field(default_factory=list, alias="known_speaker_references[]")

    @property
    def ours(self) -> Options:
        return Options(
            language=self.language,
            whisper_model=None if self.model in _THEIRS else self.model,
            prompt=self.prompt,
            temperature=self.temperature or None,  # 0 is what the configured beam search does better
        )

    def unhonoured(self) -> list[str]:
        asked = {
            "include": self.include,
            "known_speaker_names": self.known_speaker_names or self.known_speaker_references,
        }
        return [f"{name} is not available in this configuration" for name, value in asked.items() if value]
