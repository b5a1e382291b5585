"""Whose voice it is: NVIDIA's TitaNet (Koluguri et al. 2022), or another of NeMo's speaker embeddings.

Speech is cut into overlapping segments on several scales: long ones tell voices apart better, short ones tell better
when the speaker changes (Park et al. 2022, "Multi-scale speaker diarization with dynamic scale weighting").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from workers.diarize.checkpoints import quiet, restore
from workers.diarize.turns import Span
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE

Segments = npt.NDArray[np.int64]  # (n, 2): first and past-the-last sample; in order of time


@dataclass(frozen=True, slots=True)
class Scale:
    window: int  # samples
    shift: int  # samples
    weight: float


# Seconds and weights of NeMo's diar_infer_telephonic.yaml.
SCALES = ((1.5, 0.75, 1.0), (1.25, 0.625, 1.0), (1.0, 0.5, 1.0), (0.75, 0.375, 1.0), (0.5, 0.25, 1.0))


def scales_of(settings: Sequence[Sequence[float]]) -> list[Scale]:
    """Scales of (window, shift, weight), the base scale last. Raises ValueError."""
    scales = []
    for window, shift, weight in settings:
        if not 0 < shift <= window or weight <= 0:
            raise ValueError("a scale is a window and a shift, in seconds, and a weight; the shift fits the window")
        scales.append(Scale(round(window * SAMPLE_RATE), round(shift * SAMPLE_RATE), weight))
    if not scales:
        raise ValueError("at least one scale is needed")
    return sorted(scales, key=lambda scale: -scale.shift)


def segments_of(regions: Sequence[Span], scale: Scale) -> Segments:
    """The segments that cover the regions of speech, all as long as the window but where a region is shorter.

    The last one of a region ends with it, where NeMo cuts it short: a full window tells more.
    """
    parts = []
    for start, end in regions:
        first, past = round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
        last = max(first, past - scale.window)
        starts = np.append(np.arange(first, last, scale.shift), last)
        parts.append(np.stack([starts, np.minimum(starts + scale.window, past)], axis=1))
    return np.concatenate(parts) if parts else np.zeros((0, 2), np.int64)


def waveform(samples: Samples, segment: Sequence[int], window: int) -> Samples:
    """The segment's samples, repeated to the window's length where there are fewer, as NeMo does."""
    return np.resize(samples[segment[0] : segment[1]], window)


def load_titanet(model: str) -> Any:
    """NeMo's EncDecSpeakerLabelModel, on the CPU."""
    with quiet():
        from nemo.collections.asr.models import EncDecSpeakerLabelModel
    return restore(EncDecSpeakerLabelModel, model)


def embeddings_of(network: Any, signal: Tensor, length: Tensor) -> Tensor:
    """(batch, dimension) of signals (batch, samples)."""
    embeddings: Tensor = network(input_signal=signal, input_signal_length=length)[1]
    return embeddings
