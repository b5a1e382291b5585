"""Folders outside of which this process can open nothing any more (https://docs.kernel.org/userspace-api/landlock).

What stays possible: to use what is open, and to ask for any file's size, owner and times by its path.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

# linux/landlock.h
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILES_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}  # rights that are known
_TCP, _TCP_ABI = 0b11, 4  # to bind and to connect
_SCOPES, _SCOPES_ABI = 0b11, 6  # abstract Unix sockets and signals to processes outside
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on every architecture
_VERSION, _PATH_BENEATH = 1, 1

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The version of Landlock that this kernel has; 0: none, or it is switched off."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)))


def apply(readable: Iterable[str]) -> int:
    """To this thread and those that it starts from now on; no_new_privs must be set. Folders that cannot be reached are
    left out. Returns the version of Landlock. Raises OSError where there is none."""
    version = abi()
    files = max(rights for since, rights in _FILES_BY_ABI.items() if since <= max(version, 1))
    attributes = [files]
    attributes += [_TCP] if version >= _TCP_ABI else []
    attributes += [_SCOPES] if version >= _SCOPES_ABI else []
    packed = struct.pack(f"={len(attributes)}Q", *attributes)
    rules = _call(_CREATE_RULESET, packed, ctypes.c_size_t(len(packed)), 0)
    try:
        for path in readable:
            _allow(rules, path, _READ_FILE | _READ_DIR)
        _call(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)
    return version


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        _call(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, folder), 0)
    finally:
        os.close(folder)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result
