"""What a client of OpenAI may ask of a transcription, and what of it is honoured. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from diarserve.core.errors import InvalidRequest
from diarserve.core.options import CommonOptions, Options, Text, lists, validate
from diarserve.core.types import OpenAIFormat
from diarserve.http.openai.shapes import Granularity

# OpenAI's own model names mean the configured model; others ask for a model by its name.
_THEIRS = re.compile(r"default|whisper-1|gpt-[a-z0-9.-]*transcribe[a-z0-9.-]*")

# A hub id of a known Whisper conversion, or the end of one: openai/whisper-large-v3, Systran/faster-whisper-tiny.en,
# Systran/faster-distil-whisper-large-v3, distil-whisper/distil-large-v3.5-ct2, whisper-large-v3-turbo.
_HUB_ID = re.compile(
    r"(?:(?:openai|systran|guillaumekln|mobiuslabsgmbh|deepdml|distil-whisper)/)?"
    r"(?:faster-)?(?P<distil>distil-)?(?:whisper-)?(?P<size>(?:tiny|base|small|medium|large|turbo)[a-z0-9.-]*?)(?:-ct2)?",
    re.IGNORECASE,
)

_VAD = re.compile(r"chunking_strategy\[(\w+)\]")  # how openai-python sends {"type": "server_vad", "threshold": …}


class OpenAIOptions(CommonOptions):
    """OpenAI's fields, and those of our own that mean the same there."""

    model: Annotated[Text, Field(description="OpenAI's names mean the configured model.")] = None
    response_format: Annotated[OpenAIFormat, BeforeValidator(lambda value: value or "json")] = "json"
    temperature: Annotated[float, BeforeValidator(lambda value: value or 0.0), Field(ge=0, le=1)] = 0.0
    stream: Annotated[bool, BeforeValidator(lambda value: value or False)] = False
    chunking_strategy: Annotated[str | None, Field(description="Chunks are always cut at silence.")] = None
    timestamp_granularities: tuple[Granularity, ...] = ("segment",)
    diarization: Annotated[
        bool,
        BeforeValidator(lambda value: value or False),
        Field(description="As speaches has it: the segments of verbose_json have a speaker."),
    ] = False
    keywords: Annotated[tuple[str, ...], Field(description="As hotwords.")] = ()
    languages: Annotated[tuple[str, ...], Field(description="Honoured where it is one.")] = ()
    include: tuple[str, ...] = ()

    def ours(self, accepted: Collection[str] = ()) -> Options:
        """`accepted`: the model names that the server takes. Raises InvalidRequest."""
        language = self.languages[0] if self.language is None and len(self.languages) == 1 else self.language
        same = self.model_dump(include=set(CommonOptions.model_fields), exclude={"language", "hotwords"})
        return validate(
            Options,
            {
                **same,
                "language": language,
                "hotwords": self.hotwords or ", ".join(self.keywords) or None,
                "whisper_model": our_model(self.model, accepted),
                "temperature": self.temperature or None,  # 0 is what the configured beam search does better
            },
        )


def read(fields: Mapping[str, list[str]]) -> tuple[OpenAIOptions, list[str]]:
    """The options that a form's fields ask for, and a warning for each field that is not honoured. Lists come with
    brackets after their name or without. Raises InvalidRequest naming the first field that is wrong."""
    values: dict[str, Any] = {}
    ignored = []
    for name, given in fields.items():
        plain = name.removesuffix("[]")
        if plain in lists(OpenAIOptions):
            values[plain] = values.get(plain, []) + [value for value in given if value]
        elif name in OpenAIOptions.model_fields:
            if len(given) > 1:
                raise InvalidRequest(f"The field '{name}' was sent {len(given)} times.", param=name)
            values[name] = given[0]
        elif not (vad := _VAD.fullmatch(name)) or vad[1] != "type":
            ignored.append(name[:100])
    options = validate(OpenAIOptions, {name: value for name, value in values.items() if value != []})
    asked = {
        "include": options.include,
        "languages": options.languages if options.language or len(options.languages) > 1 else (),
        "keywords": options.keywords if options.hotwords else (),
    }
    ignored += [name for name, value in asked.items() if value]
    return options, [f"{name} is not available here and was ignored" for name in ignored]


def our_model(asked: str | None, accepted: Collection[str] = ()) -> str | None:
    """What we call the model that OpenAI or the Hugging Face hub knows by this name; None: the configured one.

    >>> our_model("openai/whisper-large-v3")
    'large-v3'
    """
    if asked is None or asked in accepted:
        return asked
    if _THEIRS.fullmatch(asked):
        return None
    if known := _HUB_ID.fullmatch(asked):
        return f"{known['distil'] or ''}{known['size']}".lower()
    return asked
