"""Every error a client can see: an HTTP status, a stable code, and a message that says what to do."""

from __future__ import annotations

import errno
from typing import Literal, TypedDict

from diarserve.core import descriptors
from workers.messages import JobErrorCode

# Those of the server, beside those of a job: stable, for machines. A new one is added here before it can be raised.
ServerErrorCode = Literal[
    "invalid_request",
    "unauthorized",  # no access key, or none that is known
    "forbidden",  # not for this key's role; or asked by a web page of elsewhere
    "misdirected",  # the Host is not this server's
    "key_in_use",  # its data is not deleted before it is revoked
    "rate_limited",  # more than this key may
    "empty_file",
    "diarizer_unavailable",
    "not_found",
    "model_not_found",
    "method_not_allowed",
    "upload_timeout",
    "not_finished",  # the task has no result (yet)
    "revision_conflict",  # the transcript was revised by another in the meantime
    "expired",  # the result was kept for its time
    "too_large",
    "unprocessable",
    "idempotency_key_reused",
    "reference_length",  # of a known speaker: it is too short or too long
    "too_little_speech",  # in a reference or a sample of a voice
    "several_speakers",
    "clipped",
    "voices_disabled",
    "voice_not_found",
    "voice_exists",
    "too_many_voices",
    "queue_full",
    "model_failed",
    "not_ready",
    "url_not_supported",  # a recording was to be fetched, and [fetch] is off
    "fetch_failed",  # it is not there, or at no address that is asked
    "upgrade_required",  # it is a WebSocket
    "input_audio_buffer_commit_empty",  # OpenAI's, of a live session
    "live_idle",  # a live session got no audio for too long
    "slow_reader",  # the events of a live session were not read in time
    "http_error",  # whatever else aiohttp refuses
]
ErrorCode = Literal[JobErrorCode, ServerErrorCode]


class ErrorDetail(TypedDict):
    code: ErrorCode
    message: str  # what is wrong, and what to do
    param: str | None  # the field or parameter that is wrong, where it has a name


class ErrorAnswer(TypedDict):
    error: ErrorDetail


class ServiceError(Exception):
    """What a client is answered. Raise a kind of it from anywhere; the middleware makes the answer.

    >>> raise InvalidRequest("limit must be a number from 1 to 1000.", param="limit")
    """

    status = 500
    code: ErrorCode = "internal"

    def __init__(
        self,
        message: str,
        *,
        code: ErrorCode | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.param = param
        self.retry_after = retry_after  # seconds

    def body(self) -> ErrorAnswer:
        return {"error": {"code": self.code, "message": self.message, "param": self.param}}


class InvalidRequest(ServiceError):
    status = 400
    code = "invalid_request"


class Unauthorized(ServiceError):
    status = 401
    code = "unauthorized"


class Forbidden(ServiceError):
    status = 403
    code = "forbidden"


class Misdirected(ServiceError):
    status = 421
    code = "misdirected"


class NotFound(ServiceError):
    status = 404
    code = "not_found"


class Conflict(ServiceError):
    status = 409
    code = "revision_conflict"


class UploadTimeout(ServiceError):
    status = 408
    code = "upload_timeout"


class LiveTimeout(ServiceError):
    status = 408
    code = "live_idle"


class ExpectationFailed(ServiceError):
    status = 417
    code = "http_error"


class TooLarge(ServiceError):
    status = 413
    code = "too_large"


class UnsupportedMedia(ServiceError):
    status = 415
    code = "unsupported_media"


class UpgradeRequired(ServiceError):
    status = 426
    code = "upgrade_required"


class Unprocessable(ServiceError):
    status = 422
    code = "unprocessable"


class Busy(ServiceError):
    status = 429
    code = "queue_full"


class RateLimited(ServiceError):
    status = 429
    code = "rate_limited"


class ModelFailed(ServiceError):
    status = 500
    code = "model_failed"


class OutOfMemory(ServiceError):
    status = 503
    code = "out_of_memory"


class NotReady(ServiceError):
    status = 503
    code = "not_ready"


class LaneUnavailable(ServiceError):
    """A worker that only some requests need cannot start, and this request needs it."""

    status = 503
    code = "not_ready"


class StorageFull(ServiceError):
    status = 507
    code = "storage_full"


class StorageTooSmall(StorageFull):
    """The disk would not have room if it were empty."""


def is_temporary(error: BaseException) -> bool:
    """Whether nothing is wrong with the request: the server lacks a worker, disk space or descriptors, and may have
    them later."""
    if isinstance(error, OSError):
        return is_storage_full(error) or descriptors.are_short(error)
    return isinstance(error, NotReady) or is_storage_full(error)


def is_storage_full(error: BaseException) -> bool:
    """Whether there may be room on the disk later."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, StorageFull) and not isinstance(error, StorageTooSmall)


# What a worker says of a job that cannot be done (workers.engine.JobError.code), as HTTP has it.
_JOB_ERRORS: dict[JobErrorCode, type[ServiceError]] = {
    "unsupported_media": UnsupportedMedia,
    "undecodable": Unprocessable,
    "truncated": Unprocessable,
    "empty_audio": Unprocessable,
    "no_audio": Unprocessable,
    "too_long": TooLarge,
    "language_unavailable": InvalidRequest,
    "invalid_language": InvalidRequest,
    "translation_unavailable": InvalidRequest,
    "model_unavailable": InvalidRequest,
    "too_many_speakers": InvalidRequest,
    "out_of_memory": OutOfMemory,
    "storage_full": StorageFull,
    "internal": ModelFailed,
    "crashed": ModelFailed,
}
_PARAMS: dict[JobErrorCode, str] = {
    "language_unavailable": "language",
    "invalid_language": "language",
    "translation_unavailable": "model",
    "model_unavailable": "whisper_model",
    "too_many_speakers": "num_speakers",
}


def from_job(code: JobErrorCode, message: str) -> ServiceError:
    """The client's view of a failed job. Where no other parameter is to blame, the recording is."""
    param = _PARAMS.get(code, "file")
    kind = _JOB_ERRORS[code]
    if kind is ModelFailed:
        return ModelFailed(message)
    if kind is StorageFull:
        return StorageFull(message, retry_after=60)
    return kind(message, code=code, param=param)
