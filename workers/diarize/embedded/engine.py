"""The diarizer that needs no download: its weights ship in this package (networks.py).

Segmentation windows -> tracks of local speakers -> an embedding per piece of a track -> NME-SC -> turns.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from workers.diarize.embedded import networks
from workers.diarize.embedded.clustering import assign
from workers.diarize.embedded.frames import (
    EMBEDDING_FRAMES,
    FRAME_CENTER,
    FRAME_STEP,
    FRAMES,
    LOCAL_SPEAKERS,
    LOUDNESS,
    MEL_HOP,
    MEL_WINDOW,
    SILENCE,
    WINDOW,
    Windows,
    lead,
)
from workers.diarize.embedded.live import follow
from workers.diarize.embedded.speech import speech_of
from workers.diarize.embedded.tracks import FRAME_SECONDS, cut, stitch
from workers.diarize.embedded.voices import clipping, mean_voice, pieces_of, solo
from workers.diarize.embeddings import Bounds, Vectors
from workers.diarize.turns import activity_of, finish, turns_of
from workers.engine import Engine, JobSteps, LiveSteps, WorkItem
from workers.media.samples import Samples, load
from workers.messages import SAMPLE_RATE, Diarize, Embed, Embeddings, Follow, LiveRequest, Request

WHO_GAIN = 0.3  # of what the second network gets: at 1 it takes faint voices at a meeting's edge for its speakers
STRETCH = 8  # windows that share a pass over their samples: 19 s
EDGE = (FRAME_CENTER - FRAME_STEP / 2) / SAMPLE_RATE  # seconds: where the first frame begins
THINNING = 6  # frames that share a level of activity: 0.1 s
CALIBRATION = (-0.4, 5.0)  # bias and slope of a word's margin, as `make confidence` fits them


class EmbeddedDiarizer(Engine):
    spans: ClassVar = {"segment": (0.0, 0.67), "who": (0.0, 0.67), "embed": (0.67, 0.95), "cluster": (0.95, 1.0)}

    def __init__(
        self,
        *,
        threads: int = 1,
        device: str = "cpu",
        step: float = 2.0,
        first_window: float = 0.0,  # seconds after 0 where the second window starts, and with it the grid of all others
        segmentation_batch: int | None = None,  # stretches of 19 s: 2 on a CPU, 16 on a GPU
        embedding_batch: int | None = None,  # pieces of 1.6 s: 32 on a CPU, 256 on a GPU
        save_memory: bool = False,
        accuracy: Literal["standard", "high"] = "standard",  # high: a second network says who, for 2.1 times the CPU
    ) -> None:
        self.save_memory = save_memory
        self.device = device
        gpu = device.startswith("cuda")
        self.step = round(step * SAMPLE_RATE / FRAME_STEP)  # in frames, so that all windows share one grid
        self.first = round(first_window * SAMPLE_RATE / FRAME_STEP)
        self.batches = {
            "segment": segmentation_batch or (16 if gpu else 2),
            "who": segmentation_batch or (16 if gpu else 2),
            "embed": embedding_batch or (256 if gpu else 32),
            "cluster": 1,
        }
        self.segmentation, self.who, self.encoder = networks.load(device, threads, accuracy == "high")
        self.warm_up()

    def warm_up(self) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, WINDOW).astype(np.float32)
        self.run([WorkItem("segment", (noise, range(1), 0.1))] * self.batches["segment"])
        if self.who:
            self.run([WorkItem("who", (noise, range(1), 0.1))] * self.batches["who"])
        self.run([WorkItem("embed", (noise, np.arange(EMBEDDING_FRAMES)))] * self.batches["embed"])

    def describe(self) -> Mapping[str, Any]:
        return {
            "model": "embedded",
            "device": self.device,
            "max_speakers": None,
            "embeddings": self.encoder.form,
            "live": True,
        }

    def batch(self, key: Hashable) -> int:
        return self.batches[str(key)]

    def job(self, request: Request) -> JobSteps:
        if isinstance(request, Embed):
            return (yield from self.embed(request))
        assert isinstance(request, Diarize)
        return (yield from self.diarize(request))

    def live(self, request: LiveRequest) -> LiveSteps:
        assert isinstance(request, Follow)
        return follow(request)

    def embed(self, request: Embed) -> JobSteps:
        samples, turns, clipped = load(request.audio), request.turns, 0.0
        if turns is None:  # a reference, which is short
            turns, clipped = (yield from self.diarize(Diarize(request.audio))).turns, clipping(samples)
        pieces = {speaker: pieces_of(spans, len(samples)) for speaker, spans in solo(turns).items()}
        outputs = yield [WorkItem("embed", (samples, piece)) for own in pieces.values() for piece in own]
        found = iter(outputs)
        voices = [mean_voice(speaker, [next(found) for _ in own], own) for speaker, own in pieces.items() if own]
        return Embeddings(tuple(voices), networks.MODEL, clipped)

    def diarize(self, request: Diarize) -> JobSteps:
        samples = load(request.audio)
        bounds = Bounds(request.num_speakers or request.min_speakers or 1, request.num_speakers or request.max_speakers)
        if len(samples) < MEL_WINDOW:
            return finish([], request, "embedded")
        gain = LOUDNESS / max(SILENCE, math.sqrt(np.dot(samples, samples) / len(samples)))
        last = -(-max(0, len(samples) - WINDOW) // FRAME_STEP)
        stretches = grid(last, self.step, self.first)
        items = [WorkItem("segment", (samples, starts, gain)) for starts in stretches]
        if self.who:
            items += [WorkItem("who", (samples, starts, gain * WHO_GAIN)) for starts in stretches]
        windows = yield items
        counted, followed = (np.concatenate(some) for some in (windows[: len(stretches)], windows[-len(stretches) :]))
        tracks = stitch(followed, [start for starts in stretches for start in starts], counted)
        pieces = cut(tracks)
        if not pieces:
            return finish([], request, "embedded")
        embeddings = yield [WorkItem("embed", (samples, piece.mel_frames)) for piece in pieces]
        [(labels, voices)] = yield [WorkItem("cluster", (np.stack(embeddings), pieces, tracks, bounds))]
        active, levels = speech_of(labels, voices, pieces, tracks, bounds)
        turns, order = turns_of(active, EDGE, FRAME_SECONDS, len(samples) / SAMPLE_RATE)
        activity = activity_of(thinned(levels[order]), EDGE, THINNING * FRAME_SECONDS, CALIBRATION)
        return finish(turns, request, "embedded", activity)

    def run(self, items: Sequence[WorkItem]) -> Sequence[Any]:
        match items[0].key:
            case "segment":
                return segment(self.segmentation, [item.payload for item in items])
            case "who":
                assert self.who
                return segment(self.who, [item.payload for item in items])
            case "embed":
                return list(self.encoder(np.stack([mel_windows(*item.payload) for item in items])))
            case _:
                return [assign(*item.payload) for item in items]


def segment(network: networks.Segmentation, stretches: Sequence[tuple[Samples, range, float]]) -> list[Windows]:
    """The probabilities of each stretch of windows, given by the frames they start at. 0 where all samples are 0. Of a
    network with longer windows, those of the middle 5 s."""
    found = [np.zeros((len(starts), FRAMES, LOCAL_SPEAKERS), dtype=np.float16) for _, starts, _ in stretches]
    before, heard = lead(network.window), {}
    for index, (samples, starts, gain) in enumerate(stretches):
        part = stretch(samples, starts, network.window, before)
        if part.any():
            heard[index] = (part * np.float32(gain), starts.step * FRAME_STEP)
    if heard:
        activity = network([*heard.values()])[:, before : before + FRAMES].astype(np.float16)
        borders = np.cumsum([len(stretches[index][1]) for index in heard])[:-1]
        for index, windows in zip(heard, np.split(activity, borders), strict=True):
            found[index] = windows
    return found


def grid(last: int, step: int, first: int = 0) -> list[range]:
    """Stretches of windows, as the frames they start at: one window at 0, one at `last`, between them one every `step`
    frames from `first` on.

    >>> grid(300, 100, 50)
    [range(0, 1), range(50, 300, 100), range(300, 301)]
    """
    middle = range(first, last, step)
    stretches = [middle[index : index + STRETCH] for index in range(0, len(middle), STRETCH)]
    before = [range(1)] if first and last else []
    return [*before, *stretches, range(last, last + 1)]


def stretch(samples: Samples, starts: range, window: int = WINDOW, lead: int = 0) -> Samples:
    """The samples of windows that begin `lead` frames before `starts`, padded with silence."""
    begin = (starts[0] - lead) * FRAME_STEP
    end = begin + (starts[-1] - starts[0]) * FRAME_STEP + window
    part = samples[max(0, begin) : end]
    before = max(0, -begin)
    return np.pad(part, (before, end - begin - before - len(part)))


def thinned(levels: Vectors) -> Vectors:
    """(speakers, frames) to the means of THINNING frames."""
    padded = np.pad(levels, ((0, 0), (0, -levels.shape[1] % THINNING)), mode="edge")
    means: Vectors = padded.reshape(len(levels), -1, THINNING).mean(axis=2)
    return means


def mel_windows(samples: Samples, mel_frames: npt.NDArray[np.int64]) -> Samples:
    """The samples behind each of 160 mel frames, (160, 400); fewer frames are repeated in turn."""
    first = int(mel_frames[0]) * MEL_HOP - MEL_WINDOW // 2
    last = int(mel_frames[-1]) * MEL_HOP + MEL_WINDOW // 2
    part = samples[max(0, first) : last]
    part = np.pad(part, (max(0, -first), max(0, last - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(part, MEL_WINDOW)[::MEL_HOP]
    return frames[np.resize(mel_frames - mel_frames[0], EMBEDDING_FRAMES)]
