"""NVIDIA's Sortformer (Park et al. 2024): one network says when each of up to four speakers speaks.

A streaming Sortformer (Medennikov et al. 2025) goes through a recording in chunks and keeps its speakers in a cache.
Other Sortformers take up to a window at once; longer recordings are taken in windows, see windows.py. Either
way a job is a sequence of steps, each of some seconds of work on a CPU, and no step is longer for a longer recording.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import torch

from workers.diarize.binarize import OFFLINE, STREAMING, Probabilities, speech_of
from workers.diarize.checkpoints import name_of, quiet, restore
from workers.diarize.sortformer import windows
from workers.diarize.sortformer.windows import Frames
from workers.diarize.turns import activity_of, finish, named
from workers.engine import Engine, JobError, JobSteps, WorkItem
from workers.media.samples import Samples, load
from workers.messages import SAMPLE_RATE, Diarization, Diarize, Request
from workers.runtime import devices

HOP = 160  # samples from one frame of the mel spectrogram to the next
SUBSAMPLING = 8  # of them make a frame of the network's output
FRAME = HOP * SUBSAMPLING  # samples: 80 ms
FRAME_SECONDS = FRAME / SAMPLE_RATE
MARGIN = 2  # mel frames beside a cut within which its edge shows in the spectrogram
RECENT = 64  # frames: 5 s before what is new in a window
SILENCE = 1e-5  # peak of a recording with no sound in it
# Frames: NVIDIA's setting of the "very high latency" of 30 s, its most accurate (model card of
# diar_streaming_sortformer_4spk-v2). A longer latency costs nothing here.
CHUNKS = {"chunk_len": 340, "chunk_right_context": 40, "fifo_len": 40, "spkcache_update_period": 300}
# What makes a word's speaker as probable as two independent probabilities say, within 0.03: 0.92 of 0.8 and 0.3, 0.99
# of 0.95 and 0.02. Not fitted on recordings, as the embedded diarizer's is.
AT_ITS_WORD = (0.0, 5.0)


@dataclass(frozen=True, slots=True)
class Window:
    """Frames of a recording that the network gets as if they followed each other."""

    samples: Samples
    frames: Frames
    gain: float

    def cut(self) -> Samples:
        parts = [self.samples[first * FRAME : past * FRAME] for first, past in windows.spans(self.frames)]
        return np.concatenate(parts) * np.float32(self.gain)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a recording, and what the streaming network kept of the parts before (None at the start)."""

    samples: Samples
    first: int  # mel frame
    state: Any


class Network:
    """NeMo's model on its device. Safe in several threads."""

    def __init__(self, model: Any, device: str, bf16: bool) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.bf16 = bf16 and self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        self.streaming: bool = model.streaming_mode
        self.speakers: int = model.sortformer_modules.n_spk
        if self.streaming:
            model.async_streaming = False
            for name, value in CHUNKS.items():
                setattr(model.sortformer_modules, name, value)

    @property
    def chunk(self) -> int:
        """Mel frames."""
        return int(self.model.sortformer_modules.chunk_len) * SUBSAMPLING

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

    @torch.inference_mode()
    def chunk_of(self, chunk: Chunk) -> tuple[Any, Probabilities]:
        """What is kept, and the probabilities of the chunk's own frames."""
        modules = self.model.sortformer_modules
        total = len(chunk.samples) // HOP
        end = min(chunk.first + self.chunk, total)
        left = min(modules.chunk_left_context * SUBSAMPLING, chunk.first)
        right = min(modules.chunk_right_context * SUBSAMPLING, total - end)
        begin = max(0, chunk.first - left - MARGIN)
        with devices.stream(self.device):
            part = chunk.samples[begin * HOP : (end + right + MARGIN) * HOP]
            features, _ = self.features([part])
            features = features[:, :, chunk.first - left - begin : end + right - begin].transpose(1, 2)
            # Its attributes are replaced and not changed, so that a step that fails can be done again.
            state = copy.copy(chunk.state) or modules.init_streaming_state(batch_size=1, device=self.device)
            state.to(self.device)
            with self.autocast():
                state, found = self.model.forward_streaming_step(
                    processed_signal=features,
                    processed_signal_length=torch.tensor([features.shape[1]], device=self.device),
                    streaming_state=state,
                    total_preds=torch.zeros((1, 0, self.speakers), device=self.device),
                    left_offset=left,
                    right_offset=right,
                )
            return state, found[0].float().cpu().numpy()


class Sortformer(Engine):
    def __init__(
        self,
        *,
        model: str,
        device: str = "cpu",
        threads: int = 1,
        bf16: bool = True,  # on a GPU
        batch: int | None = None,  # windows in a step: 8 on a GPU, 1 on a CPU
        window: float | None = None,  # seconds: 90 on a GPU, as in training; 60 on a CPU: attention costs its square
        overlap: float = 24.0,  # seconds of a window that repeat earlier ones, at most
        max_seconds: float = 3600.0,  # of a recording; a longer one is for a diarizer that tells more speakers apart
        post_processing: Mapping[str, float] | None = None,  # of workers.diarize.binarize
        save_memory: bool = False,
    ) -> None:
        torch.set_num_threads(threads)
        self.source, self.name = model, name_of(model)
        self.max_seconds, self.save_memory = max_seconds, save_memory
        seconds = window or (90.0 if devices.on_gpu({"device": device}) else 60.0)
        self.window, self.overlap = round(seconds / FRAME_SECONDS), round(overlap / FRAME_SECONDS)
        if not 0 < RECENT <= self.overlap <= self.window / 2:
            raise ValueError(f"overlap must be between {RECENT * FRAME_SECONDS:.1f} s and half of the window")
        self.network = Network(load_model(model), device, bf16)
        self._batch = batch or (1 if self.network.device.type == "cpu" else 8)
        self._on_cpu: Network | None = None
        self._on_cpu_lock = Lock()
        self.post_processing = replace(STREAMING if self.network.streaming else OFFLINE, **(post_processing or {}))
        self.warm_up()

    def warm_up(self) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, self.window * FRAME).astype(np.float32)
        if self.network.streaming:
            state = None
            for first in range(0, len(noise) // HOP, self.network.chunk):
                state, _ = self.network.chunk_of(Chunk(noise, first, state))
        else:
            self.network.windows([Window(noise, np.arange(self.window), 1.0)] * self._batch)

    def describe(self) -> Mapping[str, Any]:
        about = {
            "model": self.name,
            "device": str(self.network.device),
            "max_speakers": self.network.speakers,
            "max_seconds": self.max_seconds,
        }
        return {**about, "memory": devices.memory()} if self.network.device.type == "cuda" else about

    def batch(self, key: Hashable) -> int:
        return 1 if key == "chunk" else self._batch

    def job(self, request: Request) -> JobSteps:
        if not isinstance(request, Diarize):
            raise TypeError(f"{type(request).__name__} is not for Sortformer")
        return self._job(request)

    def _job(self, request: Diarize) -> Generator[list[WorkItem], list[Any], Diarization]:
        known = self.network.speakers
        least = request.num_speakers or request.min_speakers or 1
        if least > known:
            message = f"{self.name} tells {known} speakers apart at most, not {least}: ask for diarizer=clustering."
            raise JobError("too_many_speakers", message)
        samples = load(request.audio)
        peak = float(samples.max(initial=0.0))
        if len(samples) < FRAME or peak < SILENCE:
            return finish([], request, self.name)
        probabilities = yield from self._chunks(samples) if self.network.streaming else self._windows(samples, peak)
        most = request.num_speakers or request.max_speakers
        speech = speech_of(probabilities, FRAME_SECONDS, len(samples) / SAMPLE_RATE, self.post_processing, most)
        turns, columns = named(speech)
        activity = activity_of(probabilities.T[columns], 0.0, FRAME_SECONDS, AT_ITS_WORD)
        return finish(turns, request, self.name, activity)

    def _windows(self, samples: Samples, peak: float) -> Generator[list[WorkItem], list[Any], Probabilities]:
        total = math.ceil(len(samples) / FRAME)
        gain = 1 / (peak + self.network.model.eps)  # as in SortformerEncLabelModel.process_signal
        past = np.zeros((0, self.network.speakers), dtype=np.float32)
        while len(past) < total:
            memory = windows.recall(past, self.overlap, RECENT)
            new = np.arange(len(past), min(total, len(past) + self.window - len(memory)))
            frames = np.concatenate([memory, new])
            # Windows of about one length share a step: what is shorter is padded.
            key = ("window", math.ceil(4 * len(frames) / self.window))
            span = (len(past) / total, (len(past) + len(new)) / total)
            [found] = yield [WorkItem(key, Window(samples, frames, gain), span=span)]
            past = windows.join(past, memory, found, RECENT)
        return past

    def _chunks(self, samples: Samples) -> Generator[list[WorkItem], list[Any], Probabilities]:
        total = len(samples) // HOP
        state, found = None, []
        for first in range(0, total, self.network.chunk):
            span = (first / total, min(1.0, (first + self.network.chunk) / total))
            [(state, part)] = yield [WorkItem("chunk", Chunk(samples, first, state), span=span)]
            found.append(part)
        return np.concatenate(found)

    def run(self, items: Sequence[WorkItem]) -> Sequence[Any]:
        return run_on(self.network, items)

    def fallback(self, items: Sequence[WorkItem]) -> Sequence[Any] | None:
        if self.network.device.type == "cpu":
            return None
        with self._on_cpu_lock:
            if self._on_cpu is None:
                self._on_cpu = Network(load_model(self.source), "cpu", bf16=False)
        return run_on(self._on_cpu, items)


def run_on(network: Network, items: Sequence[WorkItem]) -> Sequence[Any]:
    payloads = [item.payload for item in items]
    if items[0].key == "chunk":
        return [network.chunk_of(chunk) for chunk in payloads]
    return network.windows(payloads)


def load_model(model: str) -> Any:
    """SortformerEncLabelModel of a .nemo file or of the hub, on the CPU. Raises RuntimeError that says what to do."""
    with quiet():
        from nemo.collections.asr.models import SortformerEncLabelModel
    return restore(SortformerEncLabelModel, model)
