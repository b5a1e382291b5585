"""Errors as Deepgram's clients expect them (https://developers.deepgram.com/docs/errors)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TypedDict

from diarserve.core.errors import ErrorCode, ServiceError

PATH = "/v1/listen"

_CODES: Mapping[int, str] = {
    401: "INVALID_AUTH",
    403: "INSUFFICIENT_PERMISSIONS",
    408: "SLOW_UPLOAD",
    429: "TOO_MANY_REQUESTS",
}


class DeepgramErrorAnswer(TypedDict):
    err_code: str  # Deepgram's, of which there are few
    err_msg: str
    request_id: str
    code: ErrorCode  # ours
    param: str | None


def body(error: ServiceError, request_id: str) -> DeepgramErrorAnswer:
    names = {"whisper_model": "model", "hotwords": "keyterm"}
    message = error.message
    for ours, theirs in names.items():
        message = message.replace(ours, theirs)
    param = names.get(error.param, error.param) if error.param else None
    code = _CODES.get(error.status) or HTTPStatus(error.status).phrase
    return {"err_code": code, "err_msg": message, "request_id": request_id, "code": error.code, "param": param}
