"""One request, byte for byte, and its answer."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse

NO_ANSWER = 0  # stands for a status: the server closed the connection, or waits for more


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = b""


def ask(host: str, port: int, request: bytes, patience: float) -> Answer:
    """patience: seconds for the answer once the request is sent."""
    with socket.create_connection((host, port), timeout=60) as connection:
        with suppress(OSError):  # refused before it was sent to its end: the answer is there
            connection.sendall(request)
        connection.settimeout(patience)
        try:
            response = HTTPResponse(connection, method="HEAD" if request.startswith(b"HEAD ") else None)
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())
        except (OSError, HTTPException):
            return Answer(NO_ANSWER)
