"""The streaming Sortformer, chunk by chunk: of a recording that is there, and of several live sessions at once.

What it keeps of the chunks before are frames of its encoder: a queue of the latest, and a cache of those that tell each
speaker best (Medennikov et al. 2025, "Streaming Sortformer: speaker cache-based online speaker diarization with
arrival-time ordering"). So what is kept does not grow, and its outputs keep their speakers.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch
import torch.nn.functional as F

from workers.diarize.binarize import Probabilities
from workers.diarize.sortformer.network import HOP, SUBSAMPLING, Network
from workers.media.samples import Samples
from workers.runtime import devices

MARGIN = 2  # mel frames beside a cut within which its edge shows in the spectrogram
# Frames, of NVIDIA's settings (model card of diar_streaming_sortformer_4spk-v2). Of a recording that is there: the
# "very high latency" of 30 s, the most accurate; a longer latency costs nothing here.
RECORDING = {"chunk_len": 340, "chunk_right_context": 40, "fifo_len": 40, "spkcache_update_period": 300}
# Of a live session: the "low latency" of 1.04 s. A final word waits about as long for its speaker.
LIVE = {"chunk_len": 6, "chunk_right_context": 7, "fifo_len": 188, "spkcache_update_period": 144, "spkcache_len": 188}
LIVE_CHUNK = LIVE["chunk_len"] * SUBSAMPLING  # mel frames
LIVE_AHEAD = LIVE["chunk_right_context"] * SUBSAMPLING  # mel frames after a chunk that are heard with it


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a recording, and what the network kept of the parts before (None at the start)."""

    samples: Samples
    first: int  # mel frame
    state: Any


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """What the network keeps of a live session, float32, row by row: of the published network's 512 dimensions 0.8 MB
    at most."""

    cache: bytes = b""  # (frames, dimensions), at most LIVE["spkcache_len"] frames
    cached: bytes = b""  # (frames, speakers): who speaks in them
    queue: bytes = b""  # (frames, dimensions), at most LIVE["fifo_len"] frames
    silence: bytes = b""  # (dimensions,): the mean of the silent frames so far
    silent: int = 0  # their number


@dataclass(frozen=True, slots=True)
class LiveChunk:
    """The next part of a live session, at most LIVE_CHUNK, between what is heard with it. Lengths in mel frames."""

    samples: Samples  # of `lead`, `left`, `length`, `right` and what is there of MARGIN after them
    lead: int  # before which the spectrogram is cut: MARGIN, or 0 at the session's start
    left: int  # before the part
    length: int
    right: int  # after the part; less than LIVE_AHEAD at the session's end
    kept: Kept


class StreamingNetwork(Network):
    streaming = True

    def __init__(self, model: Any, device: str, bf16: bool) -> None:
        super().__init__(model, device, bf16)
        self.model = with_settings(model, RECORDING, asynchronous=False)
        self.live = with_settings(model, LIVE, asynchronous=True)
        self.left: int = model.sortformer_modules.chunk_left_context * SUBSAMPLING  # mel frames

    @property
    def chunk(self) -> int:
        """Mel frames."""
        return RECORDING["chunk_len"] * SUBSAMPLING

    @torch.inference_mode()
    def chunk_of(self, chunk: Chunk) -> tuple[Any, Probabilities]:
        """What is kept, and the probabilities of the chunk's own frames."""
        modules = self.model.sortformer_modules
        total = len(chunk.samples) // HOP
        end = min(chunk.first + self.chunk, total)
        left = min(self.left, chunk.first)
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

    @torch.inference_mode()
    def live_chunks(self, batch: Sequence[LiveChunk]) -> list[tuple[Kept, Probabilities]]:
        """Of each what is kept now, and the probabilities of its own frames. All with one `lead` and one `left`."""
        lead, left = batch[0].lead, batch[0].left
        whole = left + LIVE_CHUNK + LIVE_AHEAD
        with devices.stream(self.device):
            features, _ = self.features([chunk.samples for chunk in batch])
            features = features[:, :, lead : lead + whole]
            features = F.pad(features, (0, whole - features.shape[2])).transpose(1, 2)
            heard = torch.tensor([left + chunk.length + chunk.right for chunk in batch], device=self.device)
            state = self._state([chunk.kept for chunk in batch])
            with self.autocast():
                state, found = self.live.forward_streaming_step(
                    processed_signal=features,
                    processed_signal_length=heard,
                    streaming_state=state,
                    total_preds=torch.zeros((len(batch), 0, self.speakers), device=self.device),
                    left_offset=left,
                    right_offset=LIVE_AHEAD,
                )
            kept = _kept(state)
            probabilities = found.float().cpu().numpy()
        lengths = [-(-chunk.length // SUBSAMPLING) for chunk in batch]
        return [(one, row[:length]) for one, row, length in zip(kept, probabilities, lengths, strict=True)]

    def _state(self, kept: Sequence[Kept]) -> Any:
        """NeMo's StreamingSortformerState, on the device, of several sessions."""
        state = self.live.sortformer_modules.init_streaming_state(batch_size=len(kept), async_streaming=True)
        for row, one in enumerate(kept):
            state.spkcache_lengths[row] = _fill(state.spkcache[row], one.cache)
            _fill(state.spkcache_preds[row], one.cached)
            state.fifo_lengths[row] = _fill(state.fifo[row], one.queue)
            _fill(state.mean_sil_emb[row : row + 1], one.silence)
            state.n_sil_frames[row] = one.silent
        state.to(self.device)
        return state


def with_settings(model: Any, settings: Mapping[str, int], *, asynchronous: bool) -> Any:
    """The same network with settings of its own; the weights are shared. asynchronous: whether the rows of a batch may
    have got on differently far."""
    modules = copy.copy(model.sortformer_modules)
    for name, value in settings.items():
        setattr(modules, name, value)
    same = copy.copy(model)
    same._modules = {**model._modules, "sortformer_modules": modules}
    same.async_streaming = asynchronous
    return same


def _fill(rows: torch.Tensor, data: bytes) -> int:
    """Set the first rows (of as many as may be, width); how many there were."""
    values = np.frombuffer(data, np.float32).reshape(-1, rows.shape[1])
    rows[: len(values)] = torch.tensor(values)
    return len(values)


def _kept(state: Any) -> list[Kept]:
    cache, cached, queue, silence = (
        tensor.float().cpu().numpy()
        for tensor in (state.spkcache, state.spkcache_preds, state.fifo, state.mean_sil_emb)
    )
    in_cache, in_queue, silent = (
        numbers.tolist() for numbers in (state.spkcache_lengths, state.fifo_lengths, state.n_sil_frames)
    )
    return [
        Kept(
            cache[row, : in_cache[row]].tobytes(),
            cached[row, : in_cache[row]].tobytes(),
            queue[row, : in_queue[row]].tobytes(),
            silence[row].tobytes(),
            silent[row],
        )
        for row in range(len(cache))
    ]
