"""NeMo's models, from a file or by the name that NVIDIA's catalogue or the hub knows them by."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workers.runtime.model_files import only_weights


@contextmanager
def quiet() -> Iterator[None]:
    """Without NeMo's warnings at import and load, which concern training: missing extras, unused data sets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nemo.utils import logging

        level = logging.getEffectiveLevel()
        logging.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.setLevel(level)


def restore(kind: Any, model: str) -> Any:
    """A model of NeMo's class `kind`, on the CPU, ready for inference. Raises RuntimeError that says what to do."""
    try:
        with quiet(), only_weights():
            if Path(model).is_file():
                loaded = kind.restore_from(model, map_location="cpu")
            else:
                loaded = kind.from_pretrained(model, map_location="cpu")
    except Exception as error:
        raise RuntimeError(
            f"no {kind.__name__} {model!r}: set it to a .nemo file, or to a name that this machine can download, which "
            f"`download_models = true` allows ({type(error).__name__})"
        ) from error
    return loaded.eval().requires_grad_(False)


def name_of(model: str) -> str:
    """What to call it: no paths."""
    return Path(model).stem if Path(model).is_file() else model
