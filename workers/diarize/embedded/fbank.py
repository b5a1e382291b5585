"""Log mel filter banks as Kaldi makes them (compute-fbank-feats, without dither), each mel's mean taken off,
in torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from workers.diarize.embedded.frames import MEL_WINDOW, MELS

_FFT, _RATE, _LOWEST = 512, 16_000, 20.0  # Hz
_PREEMPHASIS, _FAINTEST = 0.97, 1.1920928955078125e-07


def _mel(hertz: float) -> float:
    return 1127.0 * math.log(1.0 + hertz / 700.0)


def mel_filters() -> Tensor:
    """Triangles of height 1, evenly spaced in mels: (mels, fft // 2 + 1)."""
    edges = torch.linspace(_mel(_LOWEST), _mel(_RATE / 2), MELS + 2, dtype=torch.float64)
    bins = torch.tensor([_mel(bin * _RATE / _FFT) for bin in range(_FFT // 2)], dtype=torch.float64)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return nn.functional.pad(torch.minimum(rising, falling).clamp(min=0), (0, 1)).float()


class Fbank(nn.Module):
    """Of the samples (..., frames, 400) of a piece's frames, its features (..., frames, mels)."""

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        povey = torch.hann_window(MEL_WINDOW, periodic=False).pow(0.85)
        self.register_buffer("window", povey, persistent=False)
        self.register_buffer("filters", mel_filters(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        samples = samples - samples.mean(dim=-1, keepdim=True)
        before = torch.cat([samples[..., :1], samples[..., :-1]], dim=-1)
        emphasized = (samples - _PREEMPHASIS * before) * self.window
        power = torch.fft.rfft(emphasized, n=_FFT).abs().square()
        features: Tensor = (power @ self.filters.T).clamp(min=_FAINTEST).log()
        return features - features.mean(dim=-2, keepdim=True)
