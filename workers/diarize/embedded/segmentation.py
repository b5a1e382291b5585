"""The segmentation network of Bredin & Laurent 2021 (PyanNet) in plain torch.

SincNet (Ravanelli & Bengio 2018), four BiLSTM layers, two linear layers, and one sigmoid for each of three local
speakers, who may overlap. Its input is 5 s of audio; its output has 293 frames of 16.875 ms. Of pyannote's
segmentation-3.0 (Plaquet & Bredin 2023) the input is 10 s, and the output a softmax over nobody, one of three speakers,
or two of them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.diarize.embedded.frames import BANDS, LOCAL_SPEAKERS, POOL, STRIDE, TAPS, WINDOW, envelope_length
from workers.diarize.embedded.onnx_graph import ChannelsLast, ClassSums, Layers
from workers.runtime.model_files import load_weights

POWERSET = ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2))  # the speakers of each class of segmentation-3.0


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


class Envelopes(nn.Module):
    """SincNet's first layer: how loud each band of a window is, 533 times a second.

    The instance norm before the filters makes a window a * samples + b. Filters are linear, so one pass over the
    samples serves all windows that overlap, and as what counts is the largest |output| of three, so do the largest
    and the smallest of the outputs.
    """

    filters: Tensor

    def __init__(self, window: int) -> None:
        """window: in samples."""
        super().__init__()
        self.window = window
        self.length = envelope_length(window)
        self.register_buffer("filters", torch.zeros(BANDS, 1, TAPS))
        self.norm = nn.InstanceNorm1d(1, affine=True)

    def forward(self, samples: Tensor, step: int) -> Tensor:
        """(windows, bands, envelope) of the windows of samples (samples,) that start every `step`, in whole frames."""
        bands = functional.conv1d(samples[None, None], self.filters, stride=STRIDE)[0]
        high, low = functional.max_pool1d(bands, POOL), -functional.max_pool1d(-bands, POOL)
        windows = samples.unfold(0, self.window, step)
        variance, mean = torch.var_mean(windows, dim=1, correction=0)
        scale = self.norm.weight / (variance + self.norm.eps).sqrt()
        offset = (self.norm.bias - scale * mean)[:, None, None] * self.filters.sum(dim=2)
        high, low = (
            edge.unfold(1, self.length, step // (STRIDE * POOL)).transpose(0, 1) * scale[:, None, None] + offset
            for edge in (high, low)
        )
        return torch.maximum(high.abs_(), low.abs_())


class Activity(Layers):
    """The rest of the network, where windows have nothing in common any more: of envelopes (windows, bands, envelope),
    probabilities of activity (windows, frames, local speakers)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1d = nn.ModuleList([nn.Identity(), nn.Conv1d(BANDS, 60, 5), nn.Conv1d(60, 60, 5)])
        self.norm1d = nn.ModuleList([nn.InstanceNorm1d(channels, affine=True) for channels in (BANDS, 60, 60)])
        self.lstm = nn.LSTM(60, 128, num_layers=4, bidirectional=True, batch_first=True)
        self.linear = nn.ModuleList([nn.Linear(256, 128), nn.Linear(128, 128)])
        self.classifier = nn.Linear(128, classes)
        self.speakers = ClassSums(POWERSET, LOCAL_SPEAKERS)

    def layers(self) -> list[nn.Module]:
        leak, pool = nn.LeakyReLU(), nn.MaxPool1d(POOL)
        made = [self.norm1d[0], leak]
        for convolve, norm in zip(self.conv1d[1:], self.norm1d[1:], strict=True):
            made += [convolve, pool, norm, leak]
        made += [ChannelsLast(), self.lstm]
        for linear in self.linear:
            made += [linear, leak]
        if self.classifier.out_features == LOCAL_SPEAKERS:
            return [*made, self.classifier, nn.Sigmoid()]
        return [*made, self.classifier, self.speakers]


def load_segmentation(checkpoint: Path, device: torch.device, window: int = WINDOW) -> tuple[Envelopes, Activity]:
    """window: what the network was trained on, in samples."""
    weights: dict[str, Tensor] = load_weights(checkpoint)["state_dict"]
    bank = "sincnet.conv1d.0.filterbank."
    filters = band_pass(*(weights.pop(bank + part) for part in ("low_hz_", "band_hz_", "window_", "n_")))
    weights = {name.replace("wav_norm1d", "norm").removeprefix("sincnet."): kept for name, kept in weights.items()}
    envelopes, activity = Envelopes(window), Activity(len(weights["classifier.bias"]))
    norm = {name: weights.pop(name) for name in ("norm.weight", "norm.bias")}
    envelopes.load_state_dict({"filters": filters, **norm})
    activity.load_state_dict(weights)
    for network in (envelopes, activity):
        network.eval().requires_grad_(False).to(device)
    return envelopes, activity
