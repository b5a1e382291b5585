"""Engines by name: short names come from the entry points of installed packages, ours and others'."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from workers.runtime.devices import on_gpu

if TYPE_CHECKING:
    from workers.engine import Engine

_GROUP = "diarserve.engines"

# The extra of diarserve that brings what an engine needs, by the engine's module; the others need none.
EXTRAS = {
    "workers.align.engine": "whisperx",
    "workers.diarize.cascade.engine": "nemo",
    "workers.diarize.sortformer.engine": "nemo",
    "workers.separate.demucs": "separation",
}
EXTRAS_ON_A_GPU = {"workers.diarize.embedded.engine": "embedded-gpu"}


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


class MissingPackage(ImportError):
    """An engine needs a package that is not installed."""


def extra(module: str, options: Mapping[str, Any]) -> str:
    """The extra that the engine of a module needs with its options, empty where it needs none.

    >>> extra("workers.separate.demucs", {})
    'separation'
    """
    return EXTRAS_ON_A_GPU.get(module, "") if on_gpu(options) and module in EXTRAS_ON_A_GPU else EXTRAS.get(module, "")


def start(name: str, options: Mapping[str, Any]) -> Engine:
    """The engine, imported and made: only a worker does that. Raises UnknownEngine, MissingPackage with the extra that
    brings it, and whatever the engine raises."""
    module, _, attribute = locate(name).partition(":")
    try:
        engine: Engine = getattr(importlib.import_module(module), attribute)(**options)
    except ImportError as error:
        if needed := extra(module, options):
            raise MissingPackage(
                f'the engine {name} needs more: pip install "diarserve[{needed}]" ({error})'
            ) from error
        raise
    return engine
