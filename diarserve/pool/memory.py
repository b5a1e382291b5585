"""How much memory is left for workers, and how much one takes: of a GPU as workers tell, else of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_KIB = 1024
_CONTEXT = 512 * _KIB * _KIB  # bytes of a CUDA context, which torch does not count: some 0.3 to 0.5 GB
_CGROUP = Path("/sys/fs/cgroup")


def free(device: str, workers: Iterable[Mapping[str, Any]]) -> int | None:
    """Bytes that are left on a device. None: unknown. workers: those of all lanes, as in Lane.state()."""
    if not device.startswith("cuda"):
        return _machine()
    told = [worker["memory"]["free"] for worker in workers if worker["device"] == device and worker["memory"]]
    return min(told, default=None)


def taken(workers: Iterable[Mapping[str, Any]]) -> int | None:
    """Bytes that the largest of a lane's workers has taken at most, on its device. None: unknown."""
    sizes = [
        worker["memory"]["peak"] + _CONTEXT if worker["memory"] else _peak(worker["pid"])
        for worker in workers
        if worker["pid"] and (worker["memory"] or not str(worker["device"]).startswith("cuda"))
    ]
    return max((size for size in sizes if size is not None), default=None)


def _machine() -> int | None:
    """What this machine can give without swapping, and this container may take."""
    available = _field(Path("/proc/meminfo"), "MemAvailable")
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text()) - (
            _field(_CGROUP / "memory.stat", "inactive_file", 1) or 0
        )
    except (OSError, ValueError):  # there is no limit
        return available
    return limit - used if available is None else min(available, limit - used)


def _peak(pid: int) -> int | None:
    """Of a worker's process. A thread's memory is the server's, and not told apart."""
    return None if pid == os.getpid() else _field(Path(f"/proc/{pid}/status"), "VmHWM")


def _field(file: Path, name: str, unit: int = _KIB) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines)
    return next((int(words[1]) * unit for words in found if words and words[0].rstrip(":") == name), None)
