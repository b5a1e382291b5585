"""What this process holds: to be compared before and after, as a difference, since what earlier tests left may end
meanwhile."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

import psutil


def descriptors() -> set[tuple[str, str]]:
    """Open files and sockets, each with its number. A number that is used again for another file counts as new."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the folder that is being listed
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return {one for one in found if not one[1].startswith("/proc/")}


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def children() -> set[psutil.Process]:
    """Processes that this one started, and theirs, without the tracker that multiprocessing starts once for all."""
    return {process for process in psutil.Process().children(recursive=True) if not _is_tracker(process)}


def _is_tracker(process: psutil.Process) -> bool:
    try:
        return any("multiprocessing.resource_tracker" in part for part in process.cmdline())
    except psutil.Error:  # it has ended, or waits to be reaped
        return False


def legible(folder: Path, *texts: str) -> list[Path]:
    """The files in the folder, at any depth, that hold one of the texts; without those that are removed meanwhile."""
    found = []
    for parent, _, names in os.walk(folder):  # it passes over folders that vanish
        for path in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):
                held = path.read_bytes()
                found += [path for text in texts if text.encode() in held]
    return found
