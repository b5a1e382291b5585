"""Better times for known words: forced alignment by a CTC acoustic model of their language."""

from __future__ import annotations

import io
import logging
import math
import os
import time
from collections.abc import Hashable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from workers.align.ctc import Alphabet, Segment, Times, alphabet_of, find_words, segments, timed
from workers.engine import Engine, JobSteps, WorkItem
from workers.media.samples import Samples, load
from workers.messages import CROSS_ATTENTION, SAMPLE_RATE, Align, Alignment, Request
from workers.runtime import devices
from workers.words import spaced

log = logging.getLogger(__name__)

QUANTUM = 5 * SAMPLE_RATE  # lengths of windows, so that those of a batch are equal and none needs padding
FRAME = 320  # samples; of every wav2vec 2.0, HuBERT and WavLM
LEAST = 400  # samples that such a model needs
RETRY = 600.0  # seconds until loading a model is tried again that failed


@dataclass(frozen=True, slots=True)
class Acoustic:
    """A CTC model."""

    name: str
    model: Any
    alphabet: Alphabet
    frame: int  # samples

    @torch.inference_mode()
    def emissions(self, windows: Tensor) -> Tensor:
        """From (windows, samples): log-probabilities, (windows, frames, letters), on the CPU."""
        outputs = self.model(windows)
        logits = outputs[0] if isinstance(outputs, tuple) else outputs.logits  # torchaudio's or transformers'
        return torch.log_softmax(logits.float(), dim=-1).cpu()


@dataclass(frozen=True, slots=True)
class Window:
    """The samples of one work item. Wider than its segment, so that the windows of a batch are equally long."""

    samples: Samples
    begin: int
    length: int
    segment: Segment
    words: tuple[str, ...]

    def normalized(self) -> Samples:
        """(length,), of zero mean and unit variance, as the models were trained on."""
        part = np.array(self.samples[self.begin : self.begin + self.length])
        part = (part - part.mean()) / np.sqrt(part.var() + 1e-7)
        return np.pad(part, (0, self.length - part.size))


class Aligner(Engine):
    spans: ClassVar = {"load": (0.0, 0.05), "align": (0.05, 1.0)}

    def __init__(
        self,
        *,
        model: str
        | Mapping[str, str]
        | None = None,  # a name or folder, of `languages` or by language; None: whisperX's
        languages: Sequence[str] = ("en",),  # those whose models are loaded now; others when they are asked for
        device: str = "cpu",
        threads: int = 1,
        parallel: int = 1,
        batch: int | None = None,  # windows of up to 30 s; None: 1 on a CPU, 8 on a GPU
        keep: int = 2,  # models
        save_memory: bool = False,
    ) -> None:
        from whisperx import alignment  # takes seconds

        torch.set_num_threads(threads)
        self.parallel = parallel
        self._batch = batch or (8 if device.startswith("cuda") else 1)
        self._device, self.save_memory = device, save_memory
        self._load_model = alignment.load_align_model
        chosen = dict.fromkeys(languages, model) if isinstance(model, str) else dict(model or {})
        self._names = {**alignment.DEFAULT_ALIGN_MODELS_HF, **alignment.DEFAULT_ALIGN_MODELS_TORCH, **chosen}
        self._keep = max(1, keep, len(languages))
        self._loading = Lock()
        # By language and device, the last used at the end. Replaced, never changed: other threads read it.
        self._loaded: dict[tuple[str, str], Acoustic] = {}
        self._missing: dict[str, float] = {}  # by language, when its model could not be loaded
        self._events: list[str] = []
        self._languages = tuple(languages)
        for language in languages:
            if acoustic := self._acoustic(language):
                self._warm_up(acoustic)
        self._events.clear()

    def _warm_up(self, acoustic: Acoustic) -> None:
        hiss = np.random.default_rng(0).normal(0, 0.1, QUANTUM).astype(np.float32)
        letters = "".join(acoustic.alphabet.letters)[:20]
        self._align(
            [Window(hiss, 0, QUANTUM, Segment(0, 1, 0.0, 5.0), (letters,))] * self._batch, acoustic, self._device
        )

    def describe(self) -> Mapping[str, Any]:
        loaded = {language: acoustic.name for (language, _), acoustic in self._loaded.items()}
        first = next((loaded[language] for language in self._languages if language in loaded), CROSS_ATTENTION)
        return {"model": first, "device": self._device, "languages": sorted(loaded)}

    def batch(self, key: Hashable) -> int:
        return self._batch if isinstance(key, tuple) and key[0] == "align" else 1

    def job(self, request: Request) -> JobSteps:
        if not isinstance(request, Align):
            raise TypeError(f"{type(request).__name__} is not for alignment")
        return self._job(request)

    def _job(self, request: Align) -> JobSteps:
        words, language, duration = request.words, request.language, request.audio.duration
        [name] = yield [WorkItem(("load", language), None)]
        if name is None:
            warning = f"no CTC alignment model for {language!r}: words have the times of Whisper's cross-attention"
            return Alignment(tuple(spaced(words, 0.0, duration)), CROSS_ATTENTION, (warning,))
        samples = load(request.audio)
        found: list[Times | None] = [None] * len(words)
        parts = [part for part in segments(words, duration) if part.end > part.start]
        windows = sorted((window(samples, part, words) for part in parts), key=lambda one: one.length, reverse=True)
        placed = yield [WorkItem(("align", language, each.length), each) for each in windows]
        for each, times in zip(windows, placed, strict=True):
            found[each.segment.first : each.segment.past] = times
        return Alignment(tuple(spaced(timed(words, found, duration), 0.0, duration)), name)

    def run(self, items: Sequence[WorkItem]) -> Sequence[Any]:
        with devices.stream(self._device):
            return self._run(items, self._device)

    def fallback(self, items: Sequence[WorkItem]) -> Sequence[Any] | None:
        return None if self._device == "cpu" else self._run(items, "cpu")

    def _run(self, items: Sequence[WorkItem], device: str) -> Sequence[Any]:
        key: Any = items[0].key
        kind, language = key[0], key[1]
        acoustic = self._acoustic(language, device)
        if kind == "load":
            return [acoustic.name if acoustic else None] * len(items)
        windows = [item.payload for item in items]
        if acoustic is None:  # unloaded since, and it cannot be loaded again
            return [[None] * len(each.words) for each in windows]
        return self._align(windows, acoustic, device)

    def _align(self, windows: Sequence[Window], acoustic: Acoustic, device: str) -> list[list[Times | None]]:
        batch = torch.from_numpy(np.stack([each.normalized() for each in windows]))
        emissions = acoustic.emissions(devices.upload(batch, device))
        return [
            words_in(each, emission, acoustic.alphabet, acoustic.frame)
            for each, emission in zip(windows, emissions, strict=True)
        ]

    def maintain(self, idle: float) -> Sequence[str]:
        events, self._events = self._events, []
        return events

    def _acoustic(self, language: str, device: str | None = None) -> Acoustic | None:
        """The language's model, loaded if need be; None where there is none, or it cannot be loaded now."""
        key = language, device or self._device
        with self._loading:
            acoustic = self._loaded.get(key) or self._load(*key)
            if acoustic:
                others = [item for item in self._loaded.items() if item[0] != key]
                self._events += ["unload"] * (len(others) + 1 - self._keep)
                self._loaded = dict([*others, (key, acoustic)][-self._keep :])
            return acoustic

    def _load(self, language: str, device: str) -> Acoustic | None:
        name = self._names.get(language)
        if name is None or time.monotonic() - self._missing.get(language, -math.inf) < RETRY:
            return None
        try:
            with redirect_stdout(io.StringIO()):  # whisperX prints its errors
                model, metadata = self._load_model(language, device, model_name=name)
        except (OSError, ValueError) as error:
            log.warning("no CTC model %r for %r: %s", name, language, error)
            self._missing[language] = time.monotonic()
            return None
        self._events.append("load")
        frame = getattr(getattr(model, "config", None), "inputs_to_logits_ratio", FRAME)
        name = os.path.basename(os.path.normpath(name)) if os.path.isdir(name) else name
        return Acoustic(name, model.eval(), alphabet_of(metadata["dictionary"]), frame)


def window(samples: Samples, segment: Segment, words: Sequence[Any]) -> Window:
    first, past = int(segment.start * SAMPLE_RATE), math.ceil(segment.end * SAMPLE_RATE)
    length = math.ceil((past - first) / QUANTUM) * QUANTUM
    length = max(LEAST, min(length, samples.size))
    begin = min(first, max(0, samples.size - length))
    return Window(samples, begin, length, segment, tuple(word.word for word in words[segment.first : segment.past]))


def words_in(window: Window, emission: Tensor, alphabet: Alphabet, frame: int) -> list[Times | None]:
    """Seconds in the recording per word, looked for in the window's segment alone."""
    first = round((window.segment.start * SAMPLE_RATE - window.begin) / frame)
    past = round((window.segment.end * SAMPLE_RATE - window.begin) / frame)
    found = find_words(emission[first:past], window.words, alphabet)

    def seconds(number: int) -> float:
        return (window.begin + (first + number) * frame) / SAMPLE_RATE

    return [times and (seconds(times[0]), seconds(times[1])) for times in found]
