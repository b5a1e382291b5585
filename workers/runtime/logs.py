"""Logs as lines of JSON, each with the task that it concerns, in the server and in every worker."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TextIO

log = logging.getLogger(__name__)

# json.dumps would make it anew for every line. In ASCII: no terminal is controlled by what a client sent (U+009B), and
# no encoding of standard error breaks a line.
_encode = json.JSONEncoder().encode
_task: ContextVar[str | None] = ContextVar("task", default=None)
_request: ContextVar[str | None] = ContextVar("request", default=None)
_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)


@contextmanager
def log_context(
    task: str | None = None, *, request: str | None = None, traceparent: str | None = None
) -> Iterator[None]:
    """Lines logged inside are about this task, this HTTP request, this span of a trace (as W3C's header names it), or
    about several of them where one context is in another."""
    given = ((_task, task), (_request, request), (_traceparent, traceparent))
    tokens = [(variable, variable.set(value)) for variable, value in given if value]
    try:
        yield
    finally:
        for variable, token in tokens:
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
            "trace_id": None,
            "span_id": None,
            "message": record.getMessage(),
        }
        if (
            traceparent := _traceparent.get()
        ):  # named as https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/
            _, line["trace_id"], line["span_id"], _ = traceparent.split("-")
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return _encode({key: value for key, value in line.items() if value is not None})


def configure(process: str, level: str, modules: Mapping[str, str], stream: TextIO | None = None) -> None:
    """Log to the stream, standard error by default, from `level` up; `modules` names others for single modules and what
    is below them. Warnings and uncaught exceptions are logged too, so that all lines have one form."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.raiseExceptions = False  # a record that cannot be written is no reason to print a trace beside the log
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    sys.unraisablehook = lambda raised: _log_uncaught(raised.exc_type, raised.exc_value, raised.exc_traceback)
    threading.excepthook = lambda raised: _log_uncaught(raised.exc_type, raised.exc_value, raised.exc_traceback)
    if level == "debug":
        # debug is for this project's modules; a library's is switched on by its name in `modules`.
        for library in ("asyncio", "numba", "faster_whisper", "urllib3", "libav"):
            logging.getLogger(library).setLevel(logging.INFO)
    for module, own in modules.items():
        logging.getLogger(module).setLevel(own.upper())


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    log.error("uncaught: %s", kind.__name__, exc_info=(kind, error or kind(), trace))
