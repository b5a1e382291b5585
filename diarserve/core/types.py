"""Names that clients, settings and the store share."""

from __future__ import annotations

from typing import Literal

Priority = Literal["high", "normal", "low"]
Status = Literal["queued", "processing", "completed", "failed", "cancelled", "expired"]
# How a task leaves the pipeline. refused: the server lacked a worker or disk space; a durable task is tried again,
# other requests were answered 503 or 507.
Outcome = Literal["completed", "failed", "cancelled", "refused"]
Channels = Literal["mix", "separate"]
Diarizer = Literal["auto", "sortformer", "clustering", "embedded"]
Format = Literal["json", "text", "srt", "vtt", "rttm", "ctm", "stm", "tsv"]
OpenAIFormat = Literal["json", "text", "srt", "vtt", "verbose_json", "diarized_json"]
# What an access key is for; diarserve/access/roles.py says what each may do.
Role = Literal["submit", "read", "admin", "metrics"]

PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")
STATUSES: tuple[Status, ...] = ("queued", "processing", "completed", "failed", "cancelled", "expired")
