"""Engines by name: short names come from the entry points of installed packages, ours and others'."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

_GROUP = "diarserve.engines"


class UnknownEngine(LookupError):
    """No installed package has an engine of this name."""


def locate(name: str) -> str:
    """Where an engine is: "package.module:Class", for a short name as for itself. Imports nothing. Raises
    UnknownEngine.

    >>> locate("whisper")
    'workers.whisper.engine:Whisper'
    """
    if ":" in name:
        return name
    known = entry_points(group=_GROUP)
    for entry in known.select(name=name):
        return entry.value
    raise UnknownEngine(
        f"no engine is named {name!r}; there are: {', '.join(sorted(known.names)) or 'none'}; or write module:Class. "
        "In a checkout that has new engines, install it again: make .venv/installed"
    )


def load(name: str) -> Callable[..., Any]:
    """The engine's class, imported: only a worker does that. Raises UnknownEngine, ImportError and AttributeError."""
    module, _, attribute = locate(name).partition(":")
    factory: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return factory
