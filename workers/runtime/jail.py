"""What a worker gives up for good before it reads hostile files, so that a bug in a parser of C gains little.

    jail.enter()  # {"no_new_privs": True, "capabilities": "none", "seccomp": True, "landlock": 7}

Every part is the kernel's, and one that a kernel lacks is left out: the answer tells.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import struct
import sys
import sysconfig
from pathlib import Path
from typing import Any

from workers.runtime import landlock, seccomp

# linux/prctl.h, linux/capability.h
_SET_NO_NEW_PRIVS, _BOUNDING_SET_DROP, _AMBIENT, _AMBIENT_CLEAR = 38, 24, 47, 4
_CAPABILITY_VERSION = 0x20080522
_CAPSET = {"x86_64": 126, "aarch64": 91}
_LIMITS = {
    # Counts all threads of the user, the other workers' too. Nothing can be started here but threads.
    resource.RLIMIT_NPROC: 8192,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_MEMLOCK: 0,
    resource.RLIMIT_MSGQUEUE: 0,
}

_libc = ctypes.CDLL(None, use_errno=True)


def enter(open_files: int = 256) -> dict[str, Any]:
    """Confine this process to what is open by now or is handed to it, and to reading the Python environment: no files,
    no network, no other program or process. This must be its only thread, as Landlock binds one thread and those that
    it starts. Returns what holds from now on, for an operator; of what the kernel lacks the value is False.

    open_files: the most descriptors from now on."""
    for limit, value in {resource.RLIMIT_NOFILE: open_files, **_LIMITS}.items():
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    return {
        "no_new_privs": _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0,
        "capabilities": "none" if _drop_capabilities() else False,
        "landlock": _confine_files(),
        "seccomp": _filter_calls(),  # the last: what is above needs calls that it denies
    }


def missing(held: dict[str, Any]) -> list[str]:
    """The names of the parts that the kernel lacks."""
    return [name for name, value in held.items() if not value]


def _drop_capabilities() -> bool:
    """Whether there are none left, not even to come by."""
    for capability in range(64):
        _libc.prctl(_BOUNDING_SET_DROP, capability, 0, 0, 0)  # refused to who has none
    _libc.prctl(_AMBIENT, _AMBIENT_CLEAR, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    number = _CAPSET.get(platform.machine())
    return number is not None and _libc.syscall(number, header, bytes(24)) == 0


def _confine_files() -> int | bool:
    with contextlib.suppress(OSError):
        if landlock.abi():
            return landlock.apply(_environment())
    return False


def _filter_calls() -> bool:
    with contextlib.suppress(OSError, KeyError):
        seccomp.apply()
        return True
    return False


def _environment() -> set[str]:
    """Where Python's modules and the system's libraries lie, some of which are loaded when they are needed."""
    python = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    here = str(Path(__file__).parent.parent)  # a checkout's own folder holds more than modules
    libraries = {"/lib", "/lib64", "/usr/lib", "/usr/lib64", str(Path(sys.base_prefix) / "lib")}
    return {os.path.realpath(path) for path in python | libraries | {here}}
