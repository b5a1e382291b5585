"""The OpenAPI 3.1 document: every endpoint, with all that it takes and all that it may answer.

Endpoints are those of the application, described beside their handlers; components are made from the answers' types.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec
from aiohttp import web

from diarserve import __version__
from diarserve.core.options import MAX_REFERENCES
from diarserve.http.context import GATE, ROUTES
from diarserve.http.openapi.describe import Answer, Events, Form, Operation, Parameter, describe, operation_of
from diarserve.http.responses import json
from diarserve.tasks.views import UnfinishedAnswer

Schema = dict[str, Any]

routes = web.RouteTableDef()

_ABOUT = """Who said what: transcripts in which every word has a speaker.

Options of a form may stand in the query as well. Every answer has an `X-Request-ID`: the request's, or a new one. Paths
that are not listed answer 404, methods that are not listed 405 with `Allow`."""
_TAGS = {
    "transcripts": "The client waits for the answer.",
    "tasks": "The client comes back for the answer; tasks survive a restart.",
    "voices": "Voices that are kept, so that later transcripts call their speakers by name.",
    "live": "Audio that is sent while it is spoken, over WebSockets.",
    "OpenAI": "For clients of OpenAI's audio endpoints, and of speaches.",
    "Deepgram": "For clients of Deepgram's speech-to-text.",
    "whisper-asr-webservice": "For clients of it, such as Bazarr and Speakr.",
    "operation": "What the server can do, and how it is.",
}
_ERRORS = {
    400: "A field, a parameter or the body is wrong; `param` names it where it has a name.",
    401: "There is no access key, or none that is known.",
    403: "The key's role does not allow it; or, without keys, a web page of another server asks.",
    404: "There is no such thing, or it is another key's.",
    408: "The upload took too long.",
    409: "The task has no result: it has not ended, or was cancelled; or its transcript was revised meanwhile.",
    410: "The result was kept for its time and is gone.",
    413: "The recording is too large or too long, or too much was sent.",
    415: "This is not a recording that can be read.",
    417: "Of `Expect`, only `100-continue` is understood.",
    421: "The Host is not this server's.",
    422: "The recording cannot be decoded, or no voice known by it; or the Idempotency-Key was used before, for "
    "something else.",
    426: "It is a WebSocket, and this was none.",
    429: "Every place is taken, this client asks too much at a time, or this key has had what it may.",
    500: "A model failed on this recording.",
    503: "The models are not loaded, the server shuts down, or it has too much open.",
    507: "The disk is full.",
}
# Any one of them, where the server has keys.
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An access key: `dsk_...`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_TRY_LATER = (429, 503, 507)
_RECORDING: Schema = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {  # where [fetch] is enabled
            "schema": {
                "type": "object",
                "properties": {"url": {"type": "string", "format": "uri", "maxLength": 2000}},
                "required": ["url"],
                "additionalProperties": False,
            }
        },
    },
}
_REF = "#/components/schemas/{name}"


@routes.get("/openapi.json")
@describe("This document", {200: Answer("OpenAPI 3.1.", dict[str, Any])}, needs=None)
async def openapi(request: web.Request) -> web.Response:
    return json(document(request.app[ROUTES], keyed=request.app[GATE].keyed))


@cache
def document(tables: tuple[web.RouteTableDef, ...], *, keyed: bool = False) -> Schema:
    """keyed: whether access keys are needed. Raises LookupError for an endpoint that is not described."""
    types = _Types()
    paths: dict[str, Schema] = {}
    responses: dict[str, Schema] = {}  # of errors, which many endpoints refer to
    for table in tables:
        for route in table:
            assert isinstance(route, web.RouteDef)
            path = re.sub(r"{(\w+):[^}]*}", r"{\1}", route.path)  # without the pattern that it matches
            operation = operation_of(route.handler)
            for status in _errors(operation):
                responses[_error_name(operation, status)] = _error(operation, status, types)
            paths.setdefault(path, {})[route.method.lower()] = _operation(path, operation, types, keyed=keyed)
    return {
        "openapi": "3.1.0",
        "info": {"title": "diarserve", "version": __version__, "description": _ABOUT},
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": types.components(),
            "responses": dict(sorted(responses.items())),
            "securitySchemes": _KEYS,
        },
    }


class _Types:
    """Schemas of types, and the components that they refer to."""

    def __init__(self) -> None:
        self._seen: list[Any] = []

    def schema(self, type: Any) -> Schema:
        if isinstance(type, tuple):
            return {"anyOf": [self.schema(one) for one in type]}
        self._seen.append(type)
        [schema], _ = msgspec.json.schema_components((type,), ref_template=_REF)
        return schema

    def components(self) -> dict[str, Schema]:
        _, found = msgspec.json.schema_components(self._seen, ref_template=_REF)
        for schema in found.values():
            _as_answered(schema)
        return dict(sorted(found.items()))


def _as_answered(schema: Schema) -> None:
    """A field with a default need not be given, but is always answered, unless the default is to be left out."""
    properties, required = schema.get("properties", {}), schema.get("required", [])
    always = [name for name, field in properties.items() if name in required or "default" in field]
    for field in properties.values():
        field.pop("default", None)
    if properties:
        schema["required"] = always


def _errors(operation: Operation) -> list[int]:
    """Those that it names, and those of every endpoint: diarserve.http.guard, limits of clients, and http.server."""
    guarded = (401, 403) if operation.needs else (403,)
    return sorted({*operation.errors, *guarded, 417, 421, 429, 503})


def _operation(path: str, operation: Operation, types: _Types, *, keyed: bool) -> Schema:
    answers = {status: _answer(answer, types) for status, answer in operation.answers.items()}
    errors = {
        status: {"$ref": f"#/components/responses/{_error_name(operation, status)}"} for status in _errors(operation)
    }
    described = {
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _names(path)),
            *(_parameter(parameter, types) for parameter in operation.parameters),
        ],
        "responses": {str(status): answer for status, answer in {**errors, **answers}.items()},
        "security": [{name: []} for name in _KEYS] if keyed and operation.needs else [],
    }
    if operation.recording_is_body:
        return described | {"requestBody": _RECORDING}
    if operation.body is not None:
        content = {"application/json": {"schema": types.schema(operation.body)}}
        return described | {"requestBody": {"required": True, "content": content}}
    return described | ({"requestBody": _body(operation.form)} if operation.form else {})


def _names(path: str) -> Iterable[str]:
    return re.findall(r"{(\w+)}", path)


def _parameter(parameter: Parameter, types: _Types) -> Schema:
    schema = types.schema(parameter.type) | ({} if parameter.default is None else {"default": parameter.default})
    described = {"name": parameter.name, "in": parameter.place, "schema": schema}
    return described | ({"description": parameter.text} if parameter.text else {})


def _answer(answer: Answer, types: _Types) -> Schema:
    for type in answer.mentions:
        types.schema(type)
    kinds = ({} if answer.type is None else {"application/json": answer.type}) | dict(answer.other)
    content = {
        kind: {"schema": _events(type, types) if isinstance(type, Events) else types.schema(type)}
        for kind, type in kinds.items()
    }
    described: Schema = {"description": answer.text} | ({"content": content} if content else {})
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()}
    return described | ({"headers": headers} if headers else {})


def _events(events: Events, types: _Types) -> Schema:
    return {"oneOf": [_event(name, types.schema(type)) for name, type in events.data.items()]}


def _event(name: str | None, data: Schema) -> Schema:
    """The fields of an event; its data are JSON."""
    fields: Schema = {"event": {"const": name}} if name else {}
    fields["data"] = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    return {"type": "object", "properties": fields, "required": list(fields)}


def _error_name(operation: Operation, status: int) -> str:
    return f"{operation.error.__name__.removesuffix('Answer')}{status}"


def _error(operation: Operation, status: int, types: _Types) -> Schema:
    retry = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
    answer = Answer(_ERRORS[status], (UnfinishedAnswer, operation.error) if status == 409 else operation.error)
    return _answer(answer, types) | ({"headers": retry} if status in _TRY_LATER else {})


def _body(form: Form) -> Schema:
    recording: Schema = {"type": "string", "format": "binary"}
    several: Schema = {"type": "array", "items": recording, "minItems": 1}
    fields: Schema = {form.files: several if form.files == "files" else recording}
    for name, field in form.options.model_json_schema().get("properties", {}).items():
        if name not in form.without:
            fields[f"{name}[]" if field.get("type") == "array" else name] = _form_field(field)
    if form.references:
        fields["known_speaker_references[]"] = {
            "type": "array",
            "items": {"type": "string"},
            "maxItems": MAX_REFERENCES,
            "description": "Of each of the known_speaker_names 2 to 10 s of speech: a recording as a data URL "
            "(`data:audio/wav;base64,...`) or as a file.",
        }
    schema = {
        "type": "object",
        "properties": fields,
        "required": [form.files],
        "additionalProperties": form.open,
    }
    content: Schema = {"multipart/form-data": {"schema": schema}}
    return {"required": True, "content": content | (_RECORDING["content"] if form.raw else {})}


def _form_field(field: Schema) -> Schema:
    """pydantic's schema of an option, as a form has it: without null."""
    field = {key: value for key, value in field.items() if key != "title"}
    if field.get("default", ...) is None:
        del field["default"]
        field["examples"] = [""]  # left blank is as good as not sent; the docs page would make up a value
    for choice in field.pop("anyOf", ()):
        if choice != {"type": "null"}:
            field.update(choice)
    return field
