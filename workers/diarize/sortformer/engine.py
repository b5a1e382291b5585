"""NVIDIA's Sortformer (Park et al. 2024): one network says when each of up to four speakers speaks.

A streaming Sortformer (Medennikov et al. 2025) goes through a recording in chunks and keeps its speakers in a cache.
Other Sortformers take up to a window at once; longer recordings are taken in windows, see windows.py. Either
way a job is a sequence of steps, each of some seconds of work on a CPU, and no step is longer for a longer recording.
A streaming one also follows live sessions (live.py).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Hashable, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
import torch

from workers.diarize.binarize import OFFLINE, STREAMING, Probabilities, speech_of
from workers.diarize.checkpoints import name_of, quiet, restore
from workers.diarize.sortformer import windows
from workers.diarize.sortformer.live import Follower, follow
from workers.diarize.sortformer.network import FRAME, FRAME_SECONDS, HOP, Network, Window
from workers.diarize.sortformer.streaming import (
    LIVE_AHEAD,
    LIVE_CHUNK,
    MARGIN,
    Chunk,
    Kept,
    LiveChunk,
    StreamingNetwork,
)
from workers.diarize.turns import activity_of, finish, named
from workers.engine import Engine, JobError, JobSteps, LiveSteps, WorkItem
from workers.media.samples import Samples, load
from workers.messages import SAMPLE_RATE, Diarization, Diarize, Follow, LiveRequest, Request
from workers.runtime import devices

RECENT = 64  # frames: 5 s before what is new in a window
EXAMPLE = "nvidia/diar_streaming_sortformer_4spk-v2"
SILENCE = 1e-5  # peak of a recording with no sound in it
# What makes a word's speaker as probable as two independent probabilities say, within 0.03: 0.92 of 0.8 and 0.3, 0.99
# of 0.95 and 0.02. Not fitted on recordings, as the embedded diarizer's is.
AT_ITS_WORD = (0.0, 5.0)


class Sortformer(Engine):
    def __init__(
        self,
        *,
        model: str,
        device: str = "cpu",
        threads: int = 1,
        bf16: bool = True,  # on a GPU
        batch: int | None = None,  # windows in a step: 8 on a GPU, 1 on a CPU
        live: bool | None = None,  # follow live sessions; default: on a GPU. A core takes 10 s for 0.48 s of audio
        live_batch: int | None = None,  # live sessions in a step: 32 on a GPU, 4 on a CPU
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
        self.network = load_network(model, device, bf16)
        on_cpu = self.network.device.type == "cpu"
        self._batch, self._live_batch = batch or (1 if on_cpu else 8), live_batch or (4 if on_cpu else 32)
        if live and not self.network.streaming:
            raise ValueError(f"live = true needs a streaming Sortformer as the lane's model, such as {EXAMPLE}")
        self.takes_live = self.network.streaming and (not on_cpu if live is None else live)
        self._on_cpu: Network | None = None
        self._on_cpu_lock = Lock()
        self.post_processing = replace(STREAMING if self.network.streaming else OFFLINE, **(post_processing or {}))
        self.warm_up()

    def warm_up(self) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, self.window * FRAME).astype(np.float32)
        if isinstance(self.network, StreamingNetwork):
            state = None
            for first in range(0, len(noise) // HOP, self.network.chunk):
                state, _ = self.network.chunk_of(Chunk(noise, first, state))
            if not self.takes_live:
                return
            part = noise[: (LIVE_CHUNK + LIVE_AHEAD + MARGIN) * HOP]
            self.network.live_chunks([LiveChunk(part, 0, 0, LIVE_CHUNK, LIVE_AHEAD, Kept())] * self._live_batch)
        else:
            self.network.windows([Window(noise, np.arange(self.window), 1.0)] * self._batch)

    def describe(self) -> Mapping[str, Any]:
        about = {
            "model": self.name,
            "device": str(self.network.device),
            "max_speakers": self.network.speakers,
            "max_seconds": self.max_seconds,
            "live": self.takes_live,
        }
        return {**about, "memory": devices.memory()} if self.network.device.type == "cuda" else about

    def batch(self, key: Hashable) -> int:
        if isinstance(key, tuple) and key[0] == "live":
            return self._live_batch
        return 1 if key == "chunk" else self._batch

    def job(self, request: Request) -> JobSteps:
        if not isinstance(request, Diarize):
            raise TypeError(f"{type(request).__name__} is not for Sortformer")
        return self._job(request)

    def live(self, request: LiveRequest) -> LiveSteps:
        network = self.network
        if not isinstance(network, StreamingNetwork):
            message = (
                f"{self.name} takes no live audio: name a streaming Sortformer as the lane's model, such as {EXAMPLE}."
            )
            raise JobError("model_unavailable", message)
        if not self.takes_live:
            raise JobError("model_unavailable", f"{self.name} takes no live audio here: set the lane's live = true.")
        assert isinstance(request, Follow)
        most = request.num_speakers or request.max_speakers
        follower = Follower(self.post_processing, most, network.left, network.speakers, request.resume)
        return (yield from follow(request, follower, self.name))

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
        if isinstance(self.network, StreamingNetwork):
            probabilities = yield from chunks(samples, self.network.chunk)
        else:
            probabilities = yield from self._windows(samples, peak)
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

    def run(self, items: Sequence[WorkItem]) -> Sequence[Any]:
        return run_on(self.network, items)

    def fallback(self, items: Sequence[WorkItem]) -> Sequence[Any] | None:
        if self.network.device.type == "cpu":
            return None
        with self._on_cpu_lock:
            if self._on_cpu is None:
                self._on_cpu = load_network(self.source, "cpu", bf16=False)
        return run_on(self._on_cpu, items)


def chunks(samples: Samples, length: int) -> Generator[list[WorkItem], list[Any], Probabilities]:
    """length: of a chunk, mel frames."""
    total = len(samples) // HOP
    state, found = None, []
    for first in range(0, total, length):
        span = (first / total, min(1.0, (first + length) / total))
        [(state, part)] = yield [WorkItem("chunk", Chunk(samples, first, state), span=span)]
        found.append(part)
    return np.concatenate(found)


def run_on(network: Network, items: Sequence[WorkItem]) -> Sequence[Any]:
    payloads = [item.payload for item in items]
    if isinstance(network, StreamingNetwork):
        if items[0].key == "chunk":
            return [network.chunk_of(chunk) for chunk in payloads]
        return network.live_chunks(payloads)
    return network.windows(payloads)


def load_network(model: str, device: str, bf16: bool) -> Network:
    """Of a .nemo file or of the hub. Raises RuntimeError that says what to do."""
    with quiet():
        from nemo.collections.asr.models import SortformerEncLabelModel
    loaded = restore(SortformerEncLabelModel, model)
    return (StreamingNetwork if loaded.streaming_mode else Network)(loaded, device, bf16)
