"""Logs as lines of JSON, each with the task that it concerns, in the server and in every worker."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_encode = json.JSONEncoder(ensure_ascii=False).encode  # which json.dumps would make anew for every line
_task: ContextVar[str | None] = ContextVar("task", default=None)
_request: ContextVar[str | None] = ContextVar("request", default=None)


@contextmanager
def log_context(task: str | None = None, *, request: str | None = None) -> Iterator[None]:
    """Lines logged inside are about this task or this HTTP request, or both where one context is in another."""
    variable, value = (_task, task) if task is not None else (_request, request)
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


class JsonLines(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": os.getpid(),
            "module": record.name,
            "request": _request.get(),
            "task": _task.get(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return _encode({key: value for key, value in line.items() if value is not None})


def configure(process: str, level: str, modules: Mapping[str, str]) -> None:
    """Log to standard error from `level` up; `modules` names others for single modules and what is below them."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level == "debug":
        # debug is for this project's modules; a library's is switched on by its name in `modules`.
        for library in ("asyncio", "numba", "faster_whisper", "urllib3", "libav"):
            logging.getLogger(library).setLevel(logging.INFO)
    for module, own in modules.items():
        logging.getLogger(module).setLevel(own.upper())
