"""Requests of other people's clients, byte for byte as they send them: *.http, each of which says where it is from.

>>> status, headers, body = replay("http://127.0.0.1:8000", "speakr_asr", recording)
"""

from __future__ import annotations

import gzip
import http.client
import socket
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit


def replay(url: str, name: str, recording: bytes) -> tuple[int, Message, bytes]:
    """Send that request with this recording; what is answered: status, headers, body."""
    address = urlsplit(url)
    lines = Path(__file__).with_name(f"{name}.http").read_text().splitlines()
    text = "\r\n".join(line for line in lines if not line.startswith("#")) + "\r\n"
    head, _, body = text.partition("\r\n\r\n")
    before, after = (part.encode() for part in body.split("{recording}"))
    sent = before + recording + after
    head = head.format(host=address.netloc, length=len(sent))
    with socket.create_connection((str(address.hostname), address.port or 80), timeout=60) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode() + sent)
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            data = answer.read()
            data = gzip.decompress(data) if answer.headers["Content-Encoding"] == "gzip" else data
            return answer.status, answer.headers, data
