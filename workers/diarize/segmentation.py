"""The segmentation network of Bredin & Laurent 2021 (PyanNet) in plain torch.

SincNet (Ravanelli & Bengio 2018), four BiLSTM layers, two linear layers, and one sigmoid for each of three local
speakers, who may overlap. Its input is 5 s of audio; its output has 293 frames of 16.875 ms.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WINDOW = 80_000  # samples
FRAMES = 293  # per window
FRAME_STEP = 270  # samples from one frame to the next
FRAME_CENTER = 495  # samples from a window's start to the middle of its first frame
LOCAL_SPEAKERS = 3


def band_pass(low_hz: Tensor, band_hz: Tensor, taper: Tensor, time: Tensor) -> Tensor:
    """Cosine and sine band-pass filters of learned cut-off frequencies: (2 * filters, 1, taps).

    low_hz and band_hz (filters, 1); taper and time, in radians per hertz, hold the left half of the taps.
    """
    low = 50 + low_hz.abs()
    high = (low + 50 + band_hz.abs()).clamp(50, 8000)
    below, above = low @ time, high @ time
    cosine = (above.sin() - below.sin()) / (time / 2) * taper
    sine = (below.cos() - above.cos()) / (time / 2) * taper
    middle = 2 * (high - low)
    even = torch.cat([cosine, middle, cosine.flip(1)], dim=1)
    odd = torch.cat([sine, torch.zeros_like(middle), -sine.flip(1)], dim=1)
    return (torch.cat([even, odd]) / middle.repeat(2, 1))[:, None]


class SincNet(nn.Module):
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", torch.zeros(80, 1, 251))
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        self.conv1d = nn.ModuleList([nn.Identity(), nn.Conv1d(80, 60, 5), nn.Conv1d(60, 60, 5)])
        self.norm1d = nn.ModuleList([nn.InstanceNorm1d(channels, affine=True) for channels in (80, 60, 60)])

    def forward(self, waveforms: Tensor) -> Tensor:
        features = functional.conv1d(self.wav_norm1d(waveforms), self.filters, stride=10).abs()
        for convolve, norm in zip(self.conv1d, self.norm1d, strict=True):
            features = functional.leaky_relu(norm(functional.max_pool1d(convolve(features), 3)))
        return features


class Segmentation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sincnet = SincNet()
        self.lstm = nn.LSTM(60, 128, num_layers=4, bidirectional=True, batch_first=True)
        self.linear = nn.ModuleList([nn.Linear(256, 128), nn.Linear(128, 128)])
        self.classifier = nn.Linear(128, LOCAL_SPEAKERS)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Probabilities of activity, (batch, frames, local speakers), of waveforms (batch, samples)."""
        features, _ = self.lstm(self.sincnet(waveforms[:, None]).transpose(1, 2))
        for linear in self.linear:
            features = functional.leaky_relu(linear(features))
        activity: Tensor = torch.sigmoid(self.classifier(features))
        return activity


TENSOR_PARTS = {
    ("collections", "OrderedDict"),
    ("torch", "FloatStorage"),
    ("torch", "LongStorage"),
    ("torch._utils", "_rebuild_tensor_v2"),
}


class Stub:
    """Stands in for whatever class a checkpoint names beside its tensors."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


class TensorUnpickler(pickle.Unpickler):
    """Tensors and plain containers only, so that a checkpoint can neither import nor run anything."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in TENSOR_PARTS:
            return super().find_class(module, name)
        return Stub


def load_segmentation(checkpoint: Path) -> Segmentation:
    pickling = SimpleNamespace(__name__="tensors", Unpickler=TensorUnpickler, load=pickle.load)
    saved = torch.load(checkpoint, map_location="cpu", pickle_module=pickling, weights_only=False)
    weights: dict[str, Tensor] = saved["state_dict"]
    bank = "sincnet.conv1d.0.filterbank."
    filters = band_pass(*(weights.pop(bank + part) for part in ("low_hz_", "band_hz_", "window_", "n_")))
    network = Segmentation()
    network.load_state_dict({**weights, "sincnet.filters": filters})
    return network.eval().requires_grad_(False)
