"""File descriptors: how many this process may have, and what it means where there are none left."""

from __future__ import annotations

import errno
import resource

_SHORTAGES = (errno.EMFILE, errno.ENFILE)


def raise_limit() -> int:
    """Raise this process's soft limit to its hard one: shells and service managers give 1024 where 500,000 are allowed.
    The limit from now on. Workers inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def are_short(error: BaseException) -> bool:
    """Whether the error says that this process (EMFILE) or this machine (ENFILE) has no descriptor left. It passes."""
    return isinstance(error, OSError) and error.errno in _SHORTAGES
