"""What a client of Deepgram may ask in the query, and what of it is honoured. Pure functions.

https://developers.deepgram.com/reference/speech-to-text/listen-pre-recorded
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, Any, TypeVar

from msgspec import Struct
from multidict import MultiMapping
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from diarserve.core.errors import InvalidRequest
from diarserve.core.options import Options, Text, lists, validate
from diarserve.http.openai.options import our_model

# Deepgram's own model names mean the configured model; others ask for a model by its name.
_THEIRS = re.compile(r"(?:general|nova|enhanced|base|flux)(?:-[a-z0-9-]+)?|default")

# What would change the words if it were done: a client must not believe that it was.
_REFUSED = {
    "callback": "For an answer by callback use /api/v1/parallel/transcribe/async.",
    "redact": "Nothing can be redacted here.",
    "replace": "Nothing can be replaced here.",
    "profanity_filter": "There is no filter for profanity here.",
    "multichannel": "The channels of a stream are mixed into one.",
}
# What would add to the answer. All else that is unknown is passed over, as Deepgram does.
_IGNORED = frozenset(
    [
        "custom_intent",
        "custom_topic",
        "detect_entities",
        "dictation",
        "filler_words",
        "intents",
        "measurements",
        "numerals",
        "search",
        "sentiment",
        "summarize",
        "topics",
        "translate",
    ]
)
_OFF = ("", "false", "0", "no", "off")

Flag = Annotated[bool, BeforeValidator(lambda value: value or False)]


class Warned(Struct):
    """A parameter that is not honoured, in `metadata.warnings`."""

    parameter: str
    type: str
    message: str


class CommonParameters(BaseModel):
    """Of recordings and of streams."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: Annotated[Text, Field(description="Deepgram's names mean the configured model.")] = None
    language: Annotated[Text, Field(description="Default, and `multi`: detected.")] = None
    diarize: Annotated[Flag, Field(description="Whether words have a speaker.")] = False
    diarize_model: Annotated[Text, Field(description="Any turns `diarize` on.")] = None
    punctuate: Flag = False
    smart_format: Annotated[Flag, Field(description="Punctuation and paragraphs.")] = False
    keyterm: Annotated[tuple[str, ...], Field(description="Words to expect.")] = ()
    keywords: Annotated[tuple[str, ...], Field(description="The same; their weights are ignored.")] = ()

    @property
    def says_speakers(self) -> bool:
        return self.diarize or self.diarize_model is not None

    @property
    def punctuated(self) -> bool:
        return self.punctuate or self.smart_format

    @property
    def expected(self) -> str | None:
        """The words to expect, as hotwords."""
        return ", ".join((*self.keyterm, *(word.partition(":")[0] for word in self.keywords))) or None

    @property
    def our_language(self) -> str | None:
        """Whisper's code.

        >>> CommonParameters(language="en-US").our_language
        'en'
        """
        if self.language is None or self.language.lower() == "multi":
            return None
        return re.split("[-_]", self.language)[0].lower()

    def our_model(self, accepted: Collection[str]) -> str | None:
        """None: the configured one. `accepted`: the names that the server takes."""
        if self.model is None or self.model in accepted:
            return self.model
        return None if _THEIRS.fullmatch(self.model) else our_model(self.model, accepted)


class RecordingParameters(CommonParameters):
    detect_language: Annotated[str, Field(description="The language is detected wherever none is given.")] = ""
    multichannel: Annotated[Flag, Field(description="Each channel on its own, with a speaker of its own.")] = False
    paragraphs: Flag = False
    utterances: Flag = False
    utt_split: Annotated[float, Field(gt=0, le=60, description="Seconds of silence that end an utterance.")] = 0.8

    @property
    def punctuated(self) -> bool:
        return super().punctuated or self.paragraphs

    @property
    def says_paragraphs(self) -> bool:
        return self.paragraphs or self.smart_format

    @property
    def says_language(self) -> bool:
        return self.detect_language.lower() not in _OFF

    def ours(self, accepted: Collection[str] = ()) -> Options:
        """Raises InvalidRequest."""
        return validate(
            Options,
            {
                "language": None if self.says_language else self.our_language,
                "whisper_model": self.our_model(accepted),
                "hotwords": self.expected,
                "channels": "separate" if self.multichannel else "mix",
            },
        )


Parameters = TypeVar("Parameters", bound=CommonParameters)


def read(kind: type[Parameters], query: MultiMapping[str]) -> tuple[Parameters, list[Warned]]:
    """Raises InvalidRequest naming the first parameter that is wrong, or that would change the words and cannot."""
    values: dict[str, Any] = {}
    warned = []
    for name in dict.fromkeys(query):
        given = query.getall(name)
        asked = any(value.lower() not in _OFF for value in given)
        if name in lists(kind):
            values[name] = [value for value in given if value]
        elif name in kind.model_fields:
            values[name] = given[-1]
        elif name in _REFUSED and asked:
            raise InvalidRequest(f"{name}: {_REFUSED[name]}", param=name)
        elif name in _IGNORED and asked:
            warned.append(Warned(name, "unsupported_parameter", f"{name} is not supported here, and was ignored."))
    return validate(kind, values), warned
