"""Errors with the names that clients of whisper-asr-webservice know their parameters by."""

from __future__ import annotations

from collections.abc import Mapping

from diarserve.core.errors import ErrorAnswer, ServiceError

PATHS = ("/asr", "/detect-language")

_NAMES: Mapping[str, str] = {"file": "audio_file", "whisper_model": "model", "prompt": "initial_prompt"}


def body(error: ServiceError) -> ErrorAnswer:
    made = error.body()
    detail = made["error"]
    param = detail["param"]
    return {"error": {**detail, "param": _NAMES.get(param, param) if param else None}}
