"""Model files are data: to load one builds tensors and plain containers, and runs nothing that the file names.

A pickle may name any function to be called, and torch's checkpoints are pickles. torch refuses that by
`weights_only` (https://pytorch.org/docs/stable/notes/serialization.html#weights-only), which libraries that load models
for us turn off, or leave to the environment.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FORCE, _FORCE_NOT = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def forbid_code() -> None:
    """From now on, every torch.load of this process is `weights_only`, whatever its caller asks for."""
    os.environ[_FORCE] = "1"
    os.environ.pop(_FORCE_NOT, None)


@contextmanager
def only_weights(*classes: Any) -> Iterator[None]:
    """As `forbid_code`, for a while, but for objects of these classes, or of (class, the name that a file has for it).
    One model at a time: torch's settings are those of the process."""
    from torch.serialization import safe_globals

    before = {name: os.environ.get(name) for name in (_FORCE, _FORCE_NOT)}
    forbid_code()
    try:
        with safe_globals(list(classes)):
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class _Forgotten:
    """Stands for an object of any other class."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def load_weights(path: Path) -> dict[str, Any]:
    """What torch.save wrote, on the CPU. Objects of other classes than tensors and containers are forgotten, and
    nothing of theirs is imported; torch's formats before 1.6 must hold none. Raises UnpicklingError and others."""
    import torch
    from torch.serialization import get_unsafe_globals_in_checkpoint

    named = get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else ()
    with only_weights(*((_Forgotten, name) for name in named)):
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded
