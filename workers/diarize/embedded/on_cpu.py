"""The networks on a CPU: the first layers and the features in numpy, the rest by ONNX Runtime, whose LSTMs take 0.7 of
the time that torch's take, and its convolutions of few channels half. CAM++ is in int8, which takes a third of the time
of float32 for embeddings whose cosine to its own is 0.993.

The weights are files of this package, which `workers.diarize.embedded.prepare` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from workers.diarize.embedded.frames import LONG_WINDOW, POOL, STRIDE, TAPS, WINDOW, envelope_length
from workers.diarize.embeddings import Vectors
from workers.media.samples import Samples

Array = npt.NDArray[np.float32]

WEIGHTS = Path(__file__).parent / "weights"
SEGMENTATION, SECOND, CAMPPLUS = "segmentation", "segmentation-3.0", "campplus-int8"
FFT = 512
PREEMPHASIS, FAINTEST = np.float32(0.97), np.float32(1.1920928955078125e-07)


def load(threads: int, second: bool) -> tuple[Segmentation, Segmentation | None, Encoder]:
    who = Segmentation(SECOND, LONG_WINDOW, threads) if second else None
    return Segmentation(SEGMENTATION, WINDOW, threads), who, Encoder(threads)


def constants(name: str) -> dict[str, Array]:
    """Arrays of a network that are outside its ONNX graph."""
    with np.load(WEIGHTS / f"{name}.npz", allow_pickle=False) as kept:
        return {key: kept[key] for key in kept.files}


def session(model: bytes | Path, threads: int) -> Callable[[Array], Array]:
    """Runs a model in ONNX's format whose input is `batch`. Safe in many threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores are Whisper's as well
    made = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(batch: Array) -> Array:
        outputs: Any = made.run(None, {"batch": batch})
        found: Array = outputs[0]
        return found

    return run


class Segmentation:
    def __init__(self, name: str, window: int, threads: int) -> None:
        kept = constants(name)
        self.window = window
        self.envelopes = Envelopes(kept["filters"], kept["scale"], kept["offset"], kept["epsilon"], window)
        self.activity = session(WEIGHTS / f"{name}.onnx", threads)

    def __call__(self, stretches: Sequence[tuple[Samples, int]]) -> Array:
        return self.activity(np.concatenate([self.envelopes(samples, step) for samples, step in stretches]))


class Envelopes:
    """SincNet's first layer: how loud each band of a window is, 533 times a second.

    The instance norm before the filters makes a window a * samples + b. Filters are linear, so one pass over the
    samples serves all windows that overlap, and as what counts is the largest |output| of three, so do the largest
    and the smallest of the outputs.
    """

    def __init__(self, filters: Array, scale: Array, offset: Array, epsilon: Array, window: int) -> None:
        """filters (bands, taps); scale, offset and epsilon (1,) of the instance norm; window in samples."""
        self.filters = np.ascontiguousarray(filters.T)
        self.sums = filters.sum(axis=1)[:, None]
        self.scale, self.offset, self.epsilon = scale, offset, epsilon
        self.window, self.length = window, envelope_length(window)

    def __call__(self, samples: Samples, step: int) -> Array:
        """(windows, bands, envelope) of the windows of samples (samples,) that start every `step`, in whole frames."""
        bands = sliding_window_view(samples, TAPS)[::STRIDE] @ self.filters
        three = bands[: len(bands) // POOL * POOL].reshape(-1, POOL, bands.shape[1]).swapaxes(0, 1)
        windows = sliding_window_view(samples, self.window)[::step]
        scale = self.scale / np.sqrt(windows.var(axis=1) + self.epsilon)
        offset = (self.offset - scale * windows.mean(axis=1))[:, None, None] * self.sums
        high, low = (
            sliding_window_view(edge, self.length, axis=0)[:: step // (STRIDE * POOL)] * scale[:, None, None] + offset
            for edge in (np.maximum.reduce(three), np.minimum.reduce(three))
        )
        louder: Array = np.maximum(np.abs(high, out=high), np.abs(low, out=low))
        return louder


class Encoder:
    form = "int8"

    def __init__(self, threads: int) -> None:
        self.features = Fbank()
        self._run = session(WEIGHTS / f"{CAMPPLUS}.onnx", threads)

    def __call__(self, frames: Samples) -> Vectors:
        return self._run(self.features(frames))


class Fbank:
    """Log mel filter banks as Kaldi makes them (compute-fbank-feats, without dither), each mel's mean taken off."""

    def __init__(self) -> None:
        kept = constants(CAMPPLUS)
        self.window, self.filters = kept["window"], np.ascontiguousarray(kept["filters"].T)

    def __call__(self, samples: Array) -> Array:
        """Of the samples (..., frames, MEL_WINDOW) of a piece's frames, its features (..., frames, MELS)."""
        samples = samples - samples.mean(axis=-1, keepdims=True)
        emphasized = samples.copy()
        emphasized[..., 1:] -= PREEMPHASIS * samples[..., :-1]
        emphasized[..., 0] -= PREEMPHASIS * samples[..., 0]
        spectrum = np.fft.rfft(emphasized * self.window, n=FFT)
        power = spectrum.real**2 + spectrum.imag**2
        features = np.log(np.maximum(power @ self.filters, FAINTEST))
        centred: Array = features - features.mean(axis=-2, keepdims=True)
        return centred
