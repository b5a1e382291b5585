"""A finished document in other shapes. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def text(document: Mapping[str, Any]) -> str:
    """One line for each segment: [start - end] speaker: what was said."""
    return "".join(
        f"[{clock(segment['start'])} - {clock(segment['end'])}] {segment['speaker']}: {segment['text']}\n"
        for segment in document["segments"]
    )


def clock(seconds: float) -> str:
    """0:07.50; with hours only where there are any."""
    minutes, rest = divmod(round(seconds * 100), 6000)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{head}:{rest // 100:02}.{rest % 100:02}"
