"""NeMo's SortformerEncLabelModel on its device, given a window of a recording at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workers.diarize.binarize import Probabilities
from workers.diarize.sortformer import windows
from workers.diarize.sortformer.windows import Frames
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE
from workers.runtime import devices

HOP = 160  # samples from one frame of the mel spectrogram to the next
SUBSAMPLING = 8  # of them make a frame of the network's output
FRAME = HOP * SUBSAMPLING  # samples: 80 ms
FRAME_SECONDS = FRAME / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Window:
    """Frames of a recording that the network gets as if they followed each other."""

    samples: Samples
    frames: Frames
    gain: float

    def cut(self) -> Samples:
        parts = [self.samples[first * FRAME : past * FRAME] for first, past in windows.spans(self.frames)]
        return np.concatenate(parts) * np.float32(self.gain)


class Network:
    """Safe in several threads."""

    streaming = False

    def __init__(self, model: Any, device: str, bf16: bool) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.bf16 = bf16 and self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        self.speakers: int = model.sortformer_modules.n_spk

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def features(self, parts: Sequence[Samples]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mel features (parts, mels, frames), and the number of frames of each part."""
        batch = np.zeros((len(parts), max(map(len, parts))), dtype=np.float32)
        for row, part in zip(batch, parts, strict=True):
            row[: len(part)] = part
        signal = devices.upload(torch.from_numpy(batch), self.device)
        length = devices.upload(torch.tensor([len(part) for part in parts]), self.device)
        features, frames = self.model.preprocessor(input_signal=signal, length=length)
        return features, frames

    @torch.inference_mode()
    def windows(self, batch: Sequence[Window]) -> list[Probabilities]:
        parts = [window.cut() for window in batch]
        with devices.stream(self.device):
            features, frames = self.features(parts)
            with self.autocast():
                embeddings, lengths = self.model.frontend_encoder(features[:, :, : int(frames.max())], frames)
                found = self.model.forward_infer(embeddings, lengths).float().cpu().numpy()
        results = []
        for window, row in zip(batch, found, strict=True):
            complete = np.zeros((len(window.frames), self.speakers), dtype=np.float32)  # the last may have no mel frame
            complete[: len(row)] = row[: len(complete)]
            results.append(complete)
        return results
