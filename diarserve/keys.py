"""What the application holds, by typed key."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from diarserve.metrics import Metrics
from diarserve.pipeline import Lanes
from diarserve.settings import Settings
from diarserve.tasks import Tasks

SETTINGS = web.AppKey("settings", Settings)
METRICS = web.AppKey("metrics", Metrics)
LANES = web.AppKey("lanes", Lanes)
TASKS = web.AppKey("tasks", Tasks)
SPOOL = web.AppKey("spool", Path)
