"""Errors as OpenAI's clients expect them (https://platform.openai.com/docs/guides/error-codes)."""

from __future__ import annotations

from typing import Literal, TypedDict

from diarserve.core.errors import ErrorCode, ServiceError


class OpenAIErrorDetail(TypedDict):
    message: str
    type: Literal["server_error", "invalid_request_error"]
    param: str | None
    code: ErrorCode


class OpenAIErrorAnswer(TypedDict):
    error: OpenAIErrorDetail


def body(error: ServiceError) -> OpenAIErrorAnswer:
    kind: Literal["server_error", "invalid_request_error"]
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    param = "model" if error.param == "whisper_model" else error.param
    return {"error": {"message": in_their_terms(error.message), "type": kind, "param": param, "code": error.code}}


def in_their_terms(message: str) -> str:
    """Our message, with the field's name that the client knows."""
    return message.replace("whisper_model", "model")
