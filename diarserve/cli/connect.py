"""The server that commands ask, and its refusals as they tell them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diarserve.cli.command import Failure
from diarserve.client.errors import ClientError, ServerError, Unauthorized, Unreachable

PATIENCE = 5.0  # seconds that somebody at a terminal waits for a server that is not there


@contextmanager
def asking() -> Iterator[None]:
    """Raises Failure for the client's errors: with 3 where the server cannot be reached or does not let this key in,
    else with 1."""
    try:
        yield
    except ClientError as error:
        raise Failure(error.message, hint=_hint(error), code=exit_code(error)) from error


def exit_code(error: Exception) -> int:
    return 3 if isinstance(error, (Unreachable, Unauthorized)) else 1


def _hint(error: ClientError) -> str:
    if isinstance(error, ServerError) and error.request_id and error.status >= 500:
        return f"{error.hint} The server's log has it as request {error.request_id}.".strip()
    return error.hint
