"""CPU time and memory of a worker's process, from /proc (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")  # a second
_PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes


class Usage(NamedTuple):
    cpu_seconds: float  # since its start, user and system
    memory_bytes: int  # resident


def usage(pid: int) -> Usage | None:
    """None where this is no child of this process: a worker that has ended, is a thread, or runs elsewhere."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # from the third on: the second, the name, may hold anything
    if int(fields[1]) != os.getpid():
        return None
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * _PAGE)
