"""What a client may ask of a transcription, validated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from diarserve.core.errors import InvalidRequest
from diarserve.core.types import Channels, Diarizer, Format, Priority


def blank_is_absent(value: Any) -> Any:
    return None if value == "" else value


# The bounds stand inside, where pydantic's JSON schema can say them.
Count = Annotated[Annotated[int, Field(ge=1, le=100)] | None, BeforeValidator(blank_is_absent)]
Text = Annotated[Annotated[str, Field(max_length=200)] | None, BeforeValidator(blank_is_absent)]
Long = Annotated[Annotated[str, Field(max_length=2000)] | None, BeforeValidator(blank_is_absent)]
Beam = Annotated[Annotated[int, Field(ge=1, le=20)] | None, BeforeValidator(blank_is_absent)]
Temperature = Annotated[Annotated[float, Field(ge=0, le=1)] | None, BeforeValidator(blank_is_absent)]


MAX_REFERENCES = 4  # known speakers of one request, as OpenAI has it
_RESERVED = re.compile(r"UNKNOWN|SPEAKER_\d+")


def speaker_name(name: str) -> str:
    """A name that a speaker may have. Raises ValueError.

    >>> speaker_name(" Ann ")
    'Ann'
    """
    name = name.strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise ValueError("a speaker's name has 1 to 100 printable characters")
    if _RESERVED.fullmatch(name):
        raise ValueError(f"{name} is what speakers without a name are called")
    return name


def _all_or_some(values: Any) -> Any:
    """true is all voices, false none."""
    values = [values] if isinstance(values, (str, bool)) else values
    if isinstance(values, (list, tuple)):
        said = [str(value).lower() for value in values]
        return ["true"] if "true" in said else [] if said == ["false"] else values
    return values


class CommonOptions(BaseModel):
    """What every endpoint that takes a recording understands, under the same name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    language: Annotated[Text, Field(description="Of the recording, as a code such as en. Default: detected.")] = None
    source_separation: Annotated[bool, Field(description="Free the voices of music and noise first.")] = False
    enhanced_alignment: Annotated[bool, Field(description="Align words by forced alignment.")] = False
    channels: Annotated[
        Channels, BeforeValidator(lambda value: value or "mix"), Field(description="separate: one speaker per channel.")
    ] = "mix"
    diarizer: Annotated[
        Diarizer | None,
        BeforeValidator(blank_is_absent),
        Field(description="Which of the configured diarizers. Default: chosen by the recording."),
    ] = None
    prompt: Annotated[Long, Field(description="Text as if it came before: for its style and spelling.")] = None
    hotwords: Annotated[Long, Field(description="Words to expect.")] = None
    beam_size: Annotated[Beam, Field(description="Default: the configured one.")] = None
    num_speakers: Annotated[Count, Field(description="How many people speak, if it is known.")] = None
    min_speakers: Count = None
    max_speakers: Count = None

    known_speaker_names: Annotated[
        tuple[Annotated[str, AfterValidator(speaker_name)], ...],
        Field(max_length=MAX_REFERENCES, description="Of the known_speaker_references, in their order."),
    ] = ()
    known_voices: Annotated[
        tuple[Annotated[str, Field(max_length=200)], ...],
        BeforeValidator(_all_or_some),
        Field(max_length=100, description="Stored voices that may speak, by name or id; `true`: all of this key's."),
    ] = ()

    @property
    def compares_voices(self) -> bool:
        """Whether speakers' embeddings are needed."""
        return bool(self.known_speaker_names or self.known_voices)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len(set(self.known_speaker_names)) < len(self.known_speaker_names):
            raise ValueError("known_speaker_names must be different")
        return self

    @model_validator(mode="after")
    def _speakers_agree(self) -> Self:
        if (self.min_speakers or 1) > (self.max_speakers or 100):
            raise ValueError("min_speakers must not be above max_speakers")
        return self


class Options(CommonOptions):
    """What a client may ask of our own endpoints; the fields of their forms.

    >>> Options(language="en", num_speakers=2)
    """

    whisper_model: Annotated[Text, Field(description="Default: the configured one.")] = None
    temperature: Annotated[Temperature, Field(description="Above 0, words are drawn by chance.")] = None
    response_format: Annotated[
        Format,
        Field(validation_alias=AliasChoices("response_format", "format"), description="Also taken as `format`."),
    ] = "json"
    priority: Annotated[
        Priority | None,
        BeforeValidator(blank_is_absent),
        Field(description="Default: high where the client waits, normal for a task, low for a batch."),
    ] = None
    callback_url: Annotated[
        AnyHttpUrl | None,
        BeforeValidator(blank_is_absent),
        Field(description="Asked by POST when the task has ended. For tasks and batches of tasks."),
    ] = None

    speaker_embeddings: Annotated[bool, Field(description="Return the voice of each speaker as a vector.")] = False

    @property
    def compares_voices(self) -> bool:
        return super().compares_voices or self.speaker_embeddings

    @model_validator(mode="before")
    @classmethod
    def _formats_agree(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not {"response_format", "format"} <= values.keys():
            return values
        if values["response_format"] != values["format"]:
            raise ValueError("response_format and format are two names of one option, and have different values")
        return {name: value for name, value in values.items() if name != "format"}


Model = TypeVar("Model", bound=BaseModel)


@cache
def lists(model: type[BaseModel]) -> frozenset[str]:
    """The options that have several values. In a form they are sent several times, with brackets after their name or
    without."""
    return frozenset(name for name, field in model.model_fields.items() if "tuple[" in str(field.annotation))


def parse(model: type[Model], fields: Mapping[str, list[str]]) -> Model:
    """The options that a form's fields ask for. Raises InvalidRequest naming the first field that is wrong, unknown, or
    sent more than once."""
    values: dict[str, Any] = {}
    for name, given in fields.items():
        if (plain := name.removesuffix("[]")) in lists(model):
            values[plain] = values.get(plain, []) + [value for value in given if value]
            continue
        if len(given) > 1:
            raise InvalidRequest(f"The field '{name}' was sent {len(given)} times.", param=name)
        values[name] = given[0]
    return validate(model, values)


def validate(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Raises InvalidRequest naming the first value that is wrong or unknown."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        param = str(first["loc"][0]) if first["loc"] else None
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise InvalidRequest(f"Unknown field '{param}'. Known fields: file, {known}.", param=param) from error
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"{param}: {message}." if param else f"{message}.", param=param) from error
