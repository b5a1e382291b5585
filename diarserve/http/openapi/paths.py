"""The endpoints, as OpenAPI describes them. A test compares them with the routes of the application."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from diarserve.core.options import Options
from diarserve.core.types import STATUSES
from diarserve.http.openai.options import OpenAIOptions
from diarserve.http.openapi.schemas import STRING, Schema, array, enum, ref
from diarserve.transcript.formats import FORMATS

_API = "/api/v1/parallel"

_PROBLEMS = {
    400: "A field, a parameter or the body is wrong; `param` names it where it has a name.",
    404: "There is no such thing.",
    408: "The upload took too long.",
    409: "The task has no result: it has not ended, or was cancelled.",
    410: "The result was kept for its time and is gone.",
    413: "The recording is too large or too long, or too much was sent.",
    415: "This is not a recording that can be read.",
    422: "The recording cannot be decoded; or the Idempotency-Key was used before, for something else.",
    429: "Every place is taken.",
    500: "A model failed on this recording.",
    503: "The models are not loaded.",
    507: "The disk is full.",
}
_TRY_LATER = (429, 503, 507)
_RECEIVING = (400, 408, 413, 429, 507)  # what may be wrong with any upload
_ACCEPTING = (*_RECEIVING, 415, 422)
_WORKING = (400, 413, 415, 422, 500)  # how a task may fail

_RECORDING: Schema = {"type": "string", "format": "binary"}
_RECORDINGS: Schema = array(_RECORDING) | {"minItems": 1}
_TASK = {"name": "task_id", "in": "path", "required": True, "schema": STRING}
_BATCH = {"name": "batch_id", "in": "path", "required": True, "schema": STRING}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A request that is sent again with the same key gets what the first one made.",
    "schema": {"type": "string", "pattern": "^[ -~]*$", "maxLength": 255},
}
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "description": "`respond-async` makes it 202 for python-requests too, which gets 200 without it.",
    "schema": STRING,
}
_LOCATION = {"Location": {"description": "Where to ask how it goes.", "schema": STRING}}


def problems() -> dict[str, Any]:
    """The error answers that endpoints refer to."""
    return {
        f"{shape}{status}": _answer(
            text,
            ref("Unfinished" if status == 409 else shape),
            headers={"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
            if status in _TRY_LATER
            else {},
        )
        for shape in ("Error", "OpenAIError")
        for status, text in _PROBLEMS.items()
    }


def paths() -> dict[str, Any]:
    return {**_transcripts(), **_tasks(), **_openai(), **_operation()}


def _transcripts() -> dict[str, Any]:
    return {
        f"{_API}/transcribe": _post(
            "A recording in, who said what out",
            {200: _transcript()},
            problems=(*_RECEIVING, *_WORKING, 409, 410, 503),
            parameters=[_KEY],
            body=_form(Options, without="callback_url", file=_RECORDING),
        ),
        f"{_API}/batch": _post(
            "Many recordings in, a transcript or an error for each out",
            {200: _answer("In the order of the files.", ref("BatchResults"))},
            problems=(*_RECEIVING, 503),
            body=_form(Options, without="callback_url", files=_RECORDINGS),
        ),
    }


def _tasks() -> dict[str, Any]:
    one = _answer("It will be worked on, whatever happens to this server.", ref("Accepted"), headers=_LOCATION)
    many = _answer("They will be worked on, whatever happens to this server.", ref("AcceptedBatch"), headers=_LOCATION)
    status = _answer("Where the task is.", ref("Status"))
    events = _answer("In the end `done`, unless the server shuts down.", **{"text/event-stream": ref("Event")})
    return {
        f"{_API}/transcribe/async": _post(
            "Queue a recording",
            {200: one, 202: one},
            tag="tasks",
            problems=_ACCEPTING,
            parameters=[_KEY, _PREFER],
            body=_form(Options, file=_RECORDING),
        ),
        f"{_API}/batch/async": _post(
            "Queue many recordings: all of them, or none",
            {200: many, 202: many},
            tag="tasks",
            problems=_ACCEPTING,
            parameters=[_KEY, _PREFER],
            body=_form(Options, files=_RECORDINGS),
        ),
        f"{_API}/status/{{task_id}}": _get(
            "How a task goes", {200: status}, tag="tasks", problems=[404], parameters=[_TASK]
        ),
        f"{_API}/events/{{task_id}}": _get(
            "A task's progress, and its words as they are known",
            {200: events},
            tag="tasks",
            problems=[404],
            parameters=[_TASK],
        ),
        f"{_API}/result/{{task_id}}": _get(
            "A task's transcript",
            {200: _transcript()},
            tag="tasks",
            problems=(*_WORKING, 404, 409, 410),
            parameters=[
                _TASK,
                _query("response_format", enum(*FORMATS), "Default: the one that was asked for."),
                _query("format", enum(*FORMATS), "The same by a shorter name."),
            ],
        ),
        f"{_API}/tasks/{{task_id}}": {
            "delete": _operates("Cancel a task, unless it has ended", {200: status}, "tasks", [404, 507], [_TASK])
        },
        f"{_API}/tasks": _get(
            "Tasks, newest first",
            {200: _answer("One page; `next` is the `before` of the page after it.", ref("Tasks"))},
            tag="tasks",
            problems=[400],
            parameters=[
                _query("status", enum(*STATUSES)),
                _query("batch_id", STRING),
                _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}),
                _query("before", STRING, "The id of the last task of the page before this one."),
            ],
        ),
        f"{_API}/batches/{{batch_id}}": _get(
            "How a batch goes",
            {200: _answer("Its tasks, in the order of the files.", ref("Batch"))},
            tag="tasks",
            problems=[404],
            parameters=[_BATCH],
        ),
    }


def _openai() -> dict[str, Any]:
    shapes = [ref(name) for name in ("OpenAITranscription", "OpenAIVerbose", "OpenAIDiarized")]
    transcript = _answer(
        "In the shape that was asked for; with `stream`, as OpenAI's events.",
        {"anyOf": shapes},
        **{
            "text/event-stream": ref("OpenAIEvent"),
            "text/plain": STRING,
            "application/x-subrip": STRING,
            "text/vtt": STRING,
        },
    )
    posts = {
        path: _post(
            summary,
            {200: transcript},
            tag="OpenAI",
            problems=(*_RECEIVING, *_WORKING, 503),
            body=_form(OpenAIOptions, open=True, file=_RECORDING),
        )
        for path, summary in {
            "/v1/audio/transcriptions": "Transcribe, asked as OpenAI is",
            "/v1/audio/translations": "Translate into English, where the model can",
        }.items()
    }
    models = _answer("Those that are loaded.", ref("OpenAIModels"))
    one = _get(
        "A model, by any name that a transcription takes",
        {200: _answer("It is there.", ref("OpenAIModel"))},
        tag="OpenAI",
        problems=[404, 503],
        parameters=[{"name": "model", "in": "path", "required": True, "schema": STRING}],
    )
    return {**posts, "/v1/models": _get("The models", {200: models}, tag="OpenAI"), "/v1/models/{model}": one}


def _operation() -> dict[str, Any]:
    stats = _get("Tasks, queue and workers", {200: _answer("Since the start.", ref("Stats"))})
    asset = {
        "200": _answer("The file.", **{"text/javascript": STRING, "text/css": STRING, "image/png": STRING}),
        "206": {"description": "The range of it that was asked for."},
        "304": {"description": "It has not changed."},
        "412": {"description": "It has changed."},
        "416": {"description": "It has no such range."},
    }
    return {
        f"{_API}/features": _get(
            "What this server can do as it is configured", {200: _answer("All of it.", ref("Features"))}
        ),
        f"{_API}/stats": stats,
        "/stats": stats,
        "/livez": _get("Whether the process runs", {200: _answer("It does.", ref("Alive"))}),
        "/readyz": _get(
            "Whether every model is loaded",
            {200: _answer("Yes.", ref("Readiness")), 503: _answer("No, and why.", ref("Readiness"))},
        ),
        "/metrics": _get("Metrics, for Prometheus", {200: _answer("All of them.", **{"text/plain": STRING})}),
        "/openapi.json": _get("This document", {200: _answer("OpenAPI 3.1.", {"type": "object"})}),
        "/docs": _get("This document, to be read", {200: _answer("The page.", **{"text/html": STRING})}),
        "/docs/start.js": _get("The page's script", {200: _answer("It.", **{"text/javascript": STRING})}),
        "/docs/{file}": _get(
            "The page's other files",
            asset,
            problems=[404],
            parameters=[{"name": "file", "in": "path", "required": True, "schema": STRING}],
        ),
    }


def _post(
    summary: str,
    answers: dict[Any, Any],
    *,
    body: dict[str, Any],
    tag: str = "transcripts",
    problems: Iterable[int] = (),
    parameters: Iterable[dict[str, Any]] = (),
) -> dict[str, Any]:
    return {"post": _operates(summary, answers, tag, problems, parameters) | {"requestBody": body}}


def _get(
    summary: str,
    answers: dict[Any, Any],
    *,
    tag: str = "operation",
    problems: Iterable[int] = (),
    parameters: Iterable[dict[str, Any]] = (),
) -> dict[str, Any]:
    return {"get": _operates(summary, answers, tag, problems, parameters)}


def _operates(
    summary: str,
    answers: dict[Any, Any],
    tag: str,
    problems: Iterable[int],
    parameters: Iterable[dict[str, Any]],
) -> dict[str, Any]:
    shape = "OpenAIError" if tag == "OpenAI" else "Error"
    errors = {status: {"$ref": f"#/components/responses/{shape}{status}"} for status in sorted(set(problems))}
    responses = {str(status): answer for status, answer in (answers | errors).items()}
    return {"summary": summary, "tags": [tag], "parameters": list(parameters), "responses": responses}


def _answer(
    text: str, schema: Schema | None = None, *, headers: dict[str, Any] | None = None, **content: Schema
) -> dict[str, Any]:
    """Answered as JSON of this schema, or as other content types."""
    if schema is not None:
        content = {"application/json": schema, **content}
    described = {"description": text, "content": {kind: {"schema": shape} for kind, shape in content.items()}}
    return described | ({"headers": headers} if headers else {})


def _transcript() -> dict[str, Any]:
    kinds = {shape.content_type.partition(";")[0] for shape in FORMATS.values()} - {"application/json"}
    return _answer("The transcript, in the format asked for.", ref("Document"), **dict.fromkeys(sorted(kinds), STRING))


def _form(options: type[BaseModel], *, without: str = "", open: bool = False, **files: Schema) -> dict[str, Any]:
    """A multipart form: the recordings, and a field for each option. `open`: other fields are passed over."""
    schema = options.model_json_schema()
    schema["properties"].pop(without, None)
    for field in schema["properties"].values():
        del field["title"]
        if field.get("default", ...) is None:
            del field["default"]
            field["examples"] = [""]  # left blank is as good as not sent; the docs page would make up a value
        # A form has no null.
        for choice in field.pop("anyOf", ()):
            if choice != {"type": "null"}:
                field.update(choice)
    schema = {
        "type": "object",
        "properties": files
        | {
            f"{name}[]" if field.get("type") == "array" else name: field for name, field in schema["properties"].items()
        },
        "required": list(files),
        "additionalProperties": open,
    }
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _query(name: str, schema: Schema, text: str = "") -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema} | ({"description": text} if text else {})
