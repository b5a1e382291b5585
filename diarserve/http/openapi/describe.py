"""What a handler takes and answers, said beside it. `document` makes the OpenAPI document of all of it.

    @routes.get("/api/v1/parallel/status/{task_id}")
    @describe("How a task goes", {200: Answer("Where the task is.", StatusAnswer)}, tag="tasks", errors=[404])
    async def status(request: web.Request) -> web.Response: ...

Types are whatever msgspec makes a schema of: structs, TypedDicts, literals, Annotated with msgspec.Meta. A tuple of
types is any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args

from aiohttp.typedefs import Handler
from msgspec import Meta
from pydantic import BaseModel

from diarserve.access.roles import Scope
from diarserve.core.errors import ErrorAnswer

Tag = Literal["transcripts", "tasks", "voices", "live", "OpenAI", "Deepgram", "whisper-asr-webservice", "operation"]

RECEIVING = (400, 408, 413, 429, 507)  # what may be wrong with any upload
ACCEPTING = (*RECEIVING, 415, 422)  # ... and with a recording that becomes a task
WORKING = (400, 413, 415, 422, 500)  # how a task may fail


@dataclass(frozen=True)
class Events:
    """A stream of server-sent events: the type of each one's data, by its name (None: without one)."""

    data: Mapping[str | None, Any]


@dataclass(frozen=True)
class Answer:
    text: str
    type: Any = None  # of the answer as JSON; None: it is no JSON
    other: Mapping[str, Any] = field(default_factory=dict)  # by content type: types, Events
    headers: Mapping[str, str] = field(default_factory=dict)  # what each says
    mentions: Collection[Any] = ()  # types that `type` refers to in words only


@dataclass(frozen=True)
class Form:
    """A multipart form: the recording in the field that `files` names, or several in `files`, and a field for each
    option."""

    options: type[BaseModel]
    files: Literal["file", "files", "audio_file"] = "file"
    without: Collection[str] = ()  # options that this endpoint refuses
    open: bool = False  # whether unknown fields are passed over
    raw: bool = False  # whether the body may be the recording itself, with the options in the query
    references: bool = True  # whether references of known speakers are taken


@dataclass(frozen=True)
class Parameter:
    """Those of the path are strings and need not be named."""

    name: str
    place: Literal["query", "header"] = "query"
    type: Any = str
    text: str = ""
    default: Any = None


@dataclass(frozen=True)
class Operation:
    summary: str
    answers: Mapping[int, Answer]
    tag: Tag
    errors: Collection[int]  # statuses
    error: Any  # the type of what they answer
    parameters: Collection[Parameter]
    form: Form | None
    needs: Scope | None
    recording_is_body: bool = False  # instead of a form
    body: Any = None  # the type of a JSON body


H = TypeVar("H", bound=Handler)


def describe(
    summary: str,
    answers: Mapping[int, Answer],
    *,
    tag: Tag = "operation",
    errors: Collection[int] = (),
    error: Any = ErrorAnswer,
    parameters: Collection[Parameter] = (),
    form: Form | None = None,
    needs: Scope | None = "admin",
    recording_is_body: bool = False,
    body: Any = None,
) -> Callable[[H], H]:
    """needs: what an access key must be for; None: no key is needed."""
    operation = Operation(summary, answers, tag, errors, error, parameters, form, needs, recording_is_body, body)

    def mark(handler: H) -> H:
        handler.__operation__ = operation  # type: ignore[attr-defined]
        return handler

    return mark


def operation_of(handler: Any) -> Operation:
    """Raises LookupError for a handler that is not described."""
    operation = getattr(handler, "__operation__", None)
    if not isinstance(operation, Operation):
        raise LookupError(
            f"{handler.__module__}.{handler.__name__} is not described: see diarserve.http.openapi.describe"
        )
    return operation


def parameters_of(model: type[BaseModel]) -> list[Parameter]:
    """Those of the query, one for each of the model's fields."""
    schemas = model.model_json_schema()["properties"]
    return [
        Parameter(name, type=_without_none(field.annotation), text=schemas[name].get("description", ""))
        for name, field in model.model_fields.items()
    ]


def _without_none(type: Any) -> Any:
    """A parameter that is absent is not sent."""
    kinds = [kind for kind in get_args(type) if kind is not NoneType]
    return kinds[0] if NoneType in get_args(type) else type


# Parameters of several endpoints.

IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    Annotated[str, Meta(pattern="^[ -~]*$", max_length=255)],
    "A request that is sent again with the same key gets what the first one made.",
)
PREFER = Parameter(
    "Prefer",
    "header",
    text="`respond-async` makes it 202 for python-requests too, which gets 200 without it.",
)
