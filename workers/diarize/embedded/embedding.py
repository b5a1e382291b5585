"""Speaker embeddings: the GE2E d-vector encoder of Wan et al. 2018, as trained and shipped by Resemblyzer."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from workers.diarize.embedded.onnx_graph import LastFrame, Layers, Network, UnitLength
from workers.runtime.model_files import load_weights

MEL_HOP = 160  # samples: 10 ms
MEL_WINDOW = 400  # samples
MELS = 40
EMBEDDING_FRAMES = 160  # 1.6 s of mel frames
DIMENSION = 256


def mel_filters(fft: int = MEL_WINDOW, rate: int = 16_000) -> Tensor:
    """Slaney's mel filter bank with unit area per filter: (mels, fft // 2 + 1)."""
    step = 200 / 3  # Hz per mel below 1 kHz; above, 27 mels multiply the frequency by 6.4
    log_step = torch.log(torch.tensor(6.4, dtype=torch.float64)) / 27
    top = 15 + torch.log(torch.tensor(rate / 2000, dtype=torch.float64)) / log_step
    mels = torch.linspace(0, float(top), MELS + 2, dtype=torch.float64)
    hertz = torch.where(mels < 15, mels * step, 1000 * torch.exp(log_step * (mels - 15)))
    bins = torch.linspace(0, rate / 2, fft // 2 + 1, dtype=torch.float64)
    low, middle, high = hertz[:-2, None], hertz[1:-1, None], hertz[2:, None]
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return (torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)).float()


class MelFrames(nn.Module):
    """Frames of a power mel spectrogram, no logarithm: frame i is centred on sample 160 * i."""

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(MEL_WINDOW), persistent=False)
        self.register_buffer("filters", mel_filters(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """(..., mels) of the windows of samples (..., 400)."""
        power: Tensor = torch.fft.rfft(samples * self.window).abs().square()
        return power @ self.filters.T


class SpeakerEncoder(Layers):
    """Of mel frames (batch, frames, mels), embeddings of unit length (batch, dimension)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, DIMENSION, num_layers=3, batch_first=True)
        self.linear = nn.Linear(DIMENSION, DIMENSION)

    def layers(self) -> list[nn.Module]:
        return [self.lstm, LastFrame(), self.linear, nn.ReLU(), UnitLength()]


def load_encoder(checkpoint: Path, device: torch.device, threads: int = 1) -> Network:
    weights: dict[str, Tensor] = load_weights(checkpoint)["model_state"]
    encoder = SpeakerEncoder()
    encoder.load_state_dict({name: tensor for name, tensor in weights.items() if name.startswith(("lstm", "linear"))})
    return encoder.on(device, (EMBEDDING_FRAMES, MELS), threads)
