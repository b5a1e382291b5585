"""What a client of whisper-asr-webservice may ask, and what of it is honoured. Pure functions.

https://ahmetoner.github.io/whisper-asr-webservice/endpoints/
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from diarserve.core.options import Count, Long, Options, Text, validate
from diarserve.http.openai.options import our_model

Output = Literal["txt", "vtt", "srt", "tsv", "json"]
Task = Literal["transcribe", "translate"]

OUTPUTS: tuple[Output, ...] = get_args(Output)

Flag = Annotated[bool, BeforeValidator(lambda value: value or False)]


class Encoded(BaseModel):
    """Unknown parameters are passed over, as the original does."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    encode: Annotated[
        bool,
        BeforeValidator(lambda value: True if value == "" else value),
        Field(description="false: the recording is 16-bit samples, little-endian, 16 kHz, mono, without a header."),
    ] = True


class AsrParameters(Encoded):
    task: Annotated[Task, BeforeValidator(lambda value: value or "transcribe")] = "transcribe"
    language: Annotated[Text, Field(description="Default: detected.")] = None
    initial_prompt: Long = None
    hotwords: Annotated[Long, Field(description="Words to expect.")] = None
    model: Annotated[Text, Field(description="Default: the configured one.")] = None
    output: Annotated[Output, BeforeValidator(lambda value: value or "txt")] = "txt"
    word_timestamps: Annotated[Flag, Field(description="Whether JSON has words.")] = False
    vad_filter: Annotated[Flag, Field(description="Silence is always left out.")] = False
    diarize: Annotated[Flag, Field(description="Whether the answer says who speaks.")] = False
    enable_diarization: Annotated[Flag, Field(description="The same.")] = False
    min_speakers: Count = None
    max_speakers: Count = None
    return_speaker_embeddings: Annotated[Flag, Field(description="In JSON, with diarize.")] = False

    @property
    def says_speakers(self) -> bool:
        return self.diarize or self.enable_diarization

    def ours(self, accepted: Collection[str] = ()) -> Options:
        """`accepted`: the model names that the server takes. Raises InvalidRequest."""
        return validate(
            Options,
            {
                "language": self.language,
                "prompt": self.initial_prompt,
                "hotwords": self.hotwords,
                "whisper_model": our_model(self.model, accepted),
                "min_speakers": self.min_speakers if self.says_speakers else None,
                "max_speakers": self.max_speakers if self.says_speakers else None,
                "speaker_embeddings": self.says_speakers and self.return_speaker_embeddings and self.output == "json",
            },
        )


def last(fields: Mapping[str, list[str]]) -> dict[str, str]:
    """Of a parameter that is given several times, the last value counts."""
    return {name: given[-1] for name, given in fields.items()}
