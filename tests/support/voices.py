"""Recordings of known voices, for the stand-in that embeds (tests/support/standins.py)."""

from __future__ import annotations

import base64

from tests.support.app import wav

KEY = base64.b64encode(bytes(range(32))).decode()  # for [voices] key


def speaking(*voices: str, seconds: int = 5) -> bytes:
    """A recording whose speakers have these voices, for the stand-in."""
    recording, line = wav(seconds), f"voices {' '.join(voices)}\n".encode()
    return recording[:44] + line + recording[44 + len(line) :]


def url(recording: bytes) -> str:
    return f"data:audio/wav;base64,{base64.b64encode(recording).decode()}"
