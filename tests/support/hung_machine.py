"""`python -m tests.support.hung_machine FOLDER serve ...`: diarserve on a machine that stops to answer.

While there is a file "store-hangs" in the folder, no call of the store returns; while there is "spool-hangs", no folder
of the spool is made, which hangs the event loop; while there is "kills-fail", no worker is killed. With WITHOUT_UVLOOP
in the environment, asyncio's own loop is used.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import aiosqlite

from diarserve.cli.main import main
from diarserve.tasks.spool import Spool

_folder = Path(sys.argv[1])
_connect = aiosqlite.connect
_new = Spool.new
_kill = signal.pidfd_send_signal


def _wait(name: str) -> None:
    while (_folder / name).exists():
        time.sleep(0.01)


class _Connection(sqlite3.Connection):
    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        _wait("store-hangs")
        return super().execute(*arguments)


def _hanging_connect(*arguments: Any, **options: Any) -> aiosqlite.Connection:
    return _connect(*arguments, **options, factory=_Connection)


def _hanging_new(self: Spool, id: str) -> Path:
    _wait("spool-hangs")
    return _new(self, id)


def _failing_kill(*arguments: Any) -> None:
    if not (_folder / "kills-fail").exists():
        _kill(*arguments)


if __name__ == "__main__":
    aiosqlite.connect = _hanging_connect
    Spool.new = _hanging_new  # type: ignore[method-assign]
    signal.pidfd_send_signal = _failing_kill
    if "WITHOUT_UVLOOP" in os.environ:
        sys.modules["uvloop"] = None  # type: ignore[assignment]
    raise SystemExit(main(sys.argv[2:]))
