"""What a client raises. Every error has a message and a hint of what to do, which may be empty."""

from __future__ import annotations

import msgspec

_OF_CODE = {
    "unauthorized": "Give the access key: api_key=, or the variable DIARSERVE_API_KEY.",
    "forbidden": "The access key's role does not permit this.",
    "url_not_supported": "Send the recording itself, or have whoever runs the server set [fetch] enabled.",
    "queue_full": "Try again later.",
    "rate_limited": "Try again later, or ask whoever runs the server for a higher limit.",
    "not_ready": "Try again later; the server's /readyz says what it waits for.",
    "not_finished": "Wait for the task first.",
    "revision_conflict": "Fetch the result again, and change that.",
    "expired": "Transcribe the recording again.",
}


class ClientError(Exception):
    """What this package raises is one of these, but for files that cannot be read or written (OSError) and arguments
    that are wrong (ValueError)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Unreachable(ClientError):
    """No server answered, or it broke off, as often as was tried."""


class ServerError(ClientError):
    """The server refused or failed.

    status: of HTTP. code: stable, for programs (diarserve/core/errors.py lists them). param: the field or parameter
    that is wrong. retry_after: seconds. request_id: what the server's log calls the request.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        param: str | None = None,
        retry_after: float | None = None,
        request_id: str = "",
    ) -> None:
        hint = _OF_CODE.get(code, "")
        if retry_after is not None and hint.startswith("Try again later"):
            hint = hint.replace("later", f"in {retry_after:.0f} s", 1)
        super().__init__(message, hint)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.request_id = request_id


class InvalidRequest(ServerError):
    """An option is wrong or unknown: `param` names it."""


class Unauthorized(ServerError):
    """No access key, one that is not known, or one that is not for this."""


class NotFound(ServerError):
    """There is no such task, voice or model, or it is another key's."""


class NotFinished(ServerError):
    """The task has no result: it is unfinished or was cancelled."""


class Conflict(ServerError):
    """Somebody has changed the transcript since it was looked at."""


class Expired(ServerError):
    """The result was kept for its time."""


class BadRecording(ServerError):
    """It is no recording, cannot be decoded, or is too large."""


class Busy(ServerError):
    """The queue is full, or a limit of the access key is reached."""


class Unavailable(ServerError):
    """The server, or a model of it, is not ready, or its disk is full."""


_OF_STATUS: dict[int, type[ServerError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: NotFinished,
    410: Expired,
    413: BadRecording,
    415: BadRecording,
    422: BadRecording,
    429: Busy,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: Unavailable,
}
_OF_OTHER_CODES: dict[str, type[ServerError]] = {
    "idempotency_key_reused": InvalidRequest,
    "revision_conflict": Conflict,
}


class _Detail(msgspec.Struct):
    code: str
    message: str
    param: str | None = None


class _Answer(msgspec.Struct):
    error: _Detail


def of_answer(status: int, body: bytes, *, reason: str = "", retry_after: float | None, request_id: str) -> ServerError:
    """The error that an answer of 400 or above tells. A proxy's has no code: `http_error`."""
    try:
        detail = msgspec.json.decode(body, type=_Answer).error
    except msgspec.DecodeError:
        detail = _Detail(NO_CODE, f"The server answered {status} {reason}".rstrip() + ".")
    return made(status, detail.code, detail.message, detail.param, retry_after, request_id)


def made(
    status: int,
    code: str,
    message: str,
    param: str | None = None,
    retry_after: float | None = None,
    request_id: str = "",
) -> ServerError:
    kind = _OF_OTHER_CODES.get(code) or _OF_STATUS.get(status, ServerError)
    return kind(message, status=status, code=code, param=param, retry_after=retry_after, request_id=request_id)


NO_CODE = "http_error"
