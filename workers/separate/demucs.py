"""Voices freed of music and noise by Demucs (https://github.com/adefossez/demucs), in overlapping windows.

Its models know music at 44.1 kHz in stereo. What they get here is the 16 kHz mono of all other engines, raised to
44.1 kHz and given to both channels: nothing above 8 kHz and nothing of where in the room a sound is, both of which
help to tell a voice from the rest.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workers.engine import Engine, JobSteps, WorkItem
from workers.media.samples import Samples, create, load
from workers.messages import SAMPLE_RATE, AudioRef, Request, Separate, Separation
from workers.runtime import devices
from workers.runtime.model_files import only_weights

TICKS = 100  # a second: windows begin and end on ticks, which are whole samples at 16 and at 44.1 kHz
TICK = SAMPLE_RATE // TICKS
PHASE = 64  # windows: their voices are held until all are done
_CLASSES = ("demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs")  # of models
SILENCE = 1e-5  # root mean square: quieter recordings are amplified as if they were as loud as this


class Demucs(Engine):
    def __init__(
        self,
        *,
        model: str = "htdemucs",  # what demucs calls it, or a .yaml, .th or .safetensors file
        device: str = "cpu",
        threads: int = 1,
        parallel: int = 1,
        batch: int | None = None,  # windows; None: 1 on a CPU, 8 on a GPU
        segment: float | None = None,  # seconds of a window; None: the model's own, to which htdemucs pads less
        overlap: float = 0.25,
        save_memory: bool = False,
    ) -> None:
        torch.set_num_threads(threads)
        gpu = device.startswith("cuda")
        self.parallel = parallel
        self._batch = batch or (8 if gpu else 1)
        self.save_memory = save_memory
        self.device = torch.device(device)
        loaded, self.name = _load(model)
        ticks = int(TICKS * min(segment or math.inf, float(loaded.segment)) + 1e-6)
        self.window = ticks * TICK
        self.stride = max(1, round(ticks * (1 - overlap))) * TICK
        voices = Voices(loaded).eval()
        self._on_cpu = copy.deepcopy(voices) if gpu else None
        self.voices = voices.to(self.device)
        self._separate([np.zeros(self.window, np.float32)] * self._batch, self.voices, self.device)

    def describe(self) -> Mapping[str, Any]:
        return {"model": self.name, "device": str(self.device)}

    def batch(self, key: Hashable) -> int:
        return self._batch

    def job(self, request: Request) -> JobSteps:
        if not isinstance(request, Separate):
            raise TypeError(f"{type(request).__name__} is not for Demucs")
        return self._job(request)

    def _job(self, request: Separate) -> JobSteps:
        samples = load(request.audio)
        starts = window_starts(samples.size, self.window, self.stride)
        gain = 1 / max(SILENCE, math.sqrt(np.dot(samples, samples) / max(1, samples.size)))
        blend = Blend(self.window)
        with create(request.target) as file:
            for first in range(0, len(starts), PHASE):
                phase = starts[first : first + PHASE]
                span = (first / len(starts), (first + len(phase)) / len(starts))
                voices = yield [WorkItem("separate", (samples, start, gain), span=span) for start in phase]
                for start, voice in zip(phase, voices, strict=True):
                    file.write(blend.add(start, voice).data)
            file.write(blend.rest(samples.size).data)
        return Separation(AudioRef(request.target, samples.size), self.name)

    def run(self, items: Sequence[WorkItem]) -> Sequence[Samples]:
        with devices.stream(self.device):
            return self._run(items, self.voices, self.device)

    def fallback(self, items: Sequence[WorkItem]) -> Sequence[Samples] | None:
        return self._run(items, self._on_cpu, torch.device("cpu")) if self._on_cpu else None

    def _run(self, items: Sequence[WorkItem], voices: Voices, device: torch.device) -> list[Samples]:
        windows = []
        for samples, start, gain in (item.payload for item in items):
            part = samples[start : start + self.window] * np.float32(gain)
            windows.append(np.pad(part, (0, self.window - part.size)))
        found = self._separate(windows, voices, device)
        return [voice / np.float32(item.payload[2]) for voice, item in zip(found, items, strict=True)]

    @torch.inference_mode()
    def _separate(self, windows: Sequence[Samples], voices: Voices, device: torch.device) -> Samples:
        """(windows, samples) at 16 kHz, and so are the voices in them."""
        found: Samples = voices(devices.upload(torch.from_numpy(np.stack(windows)), device)).cpu().numpy()
        return found


class Voices(nn.Module):
    """16 kHz mono in, (windows, samples); the voices in it out, of the same shape."""

    def __init__(self, model: Any) -> None:
        from demucs.apply import apply_model
        from torchaudio.transforms import Resample

        super().__init__()
        self.model = model
        self.source = model.sources.index("vocals")
        self.channels: int = model.audio_channels
        filter = {"lowpass_filter_width": 64, "rolloff": 0.9476}
        self.up = Resample(SAMPLE_RATE, model.samplerate, **filter)
        self.down = Resample(model.samplerate, SAMPLE_RATE, **filter)
        self._apply_model = apply_model

    def forward(self, windows: Tensor) -> Tensor:
        raised = self.up(windows)[:, None].expand(-1, self.channels, -1)
        # Pads to what the model wants, and weighs the models where there are several.
        sources = self._apply_model(self.model, raised, shifts=0, split=False)
        mono = sources[:, self.source].mean(dim=1)
        lowered: Tensor = self.down(mono)[:, : windows.shape[1]]
        return lowered


class Blend:
    """Adds up overlapping windows, each fading in and out, and holds only the samples that are not final yet."""

    def __init__(self, window: int) -> None:
        rising = np.arange(1, window + 1, dtype=np.float32)
        self._fade = np.minimum(rising, rising[::-1]) / np.float32(math.ceil(window / 2))
        self._sum = np.zeros(window, np.float32)
        self._weight = np.zeros(window, np.float32)
        self._start = 0  # of what is not final, in the recording

    def add(self, start: int, samples: Samples) -> Samples:
        """To be called in order of start. Returns the samples before it, which are final now."""
        done = self.rest(start)
        kept = self._sum.size - done.size
        for held in (self._sum, self._weight):
            held[:kept] = held[done.size :].copy()
            held[kept:] = 0
        self._start = start
        self._sum += self._fade * samples
        self._weight += self._fade
        return done

    def rest(self, end: int) -> Samples:
        """What is not final yet, up to this sample of the recording."""
        past = end - self._start
        whole: Samples = self._sum[:past] / self._weight[:past]
        return whole


def window_starts(size: int, window: int, stride: int) -> list[int]:
    """The last window ends within a tick of the recording's end: every window but an only one is full."""
    if not size:
        return []
    last = max(0, math.ceil((size - window) / TICK)) * TICK
    return [*range(0, last, stride), last]


def _load(model: str) -> tuple[Any, str]:
    """The model, without what does not contribute to the voices, and its name."""
    from demucs import hf
    from demucs.apply import BagOfModels
    from demucs.demucs import Demucs as FirstDemucs
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs
    from demucs.pretrained import get_model

    path = Path(model)
    with only_weights(HTDemucs, HDemucs, FirstDemucs, Fraction), _known_classes(hf):
        if path.suffix == ".safetensors":
            return hf.load_safetensors_model(path).eval(), path.stem
        if path.suffix in (".yaml", ".th"):  # beside a .yaml are its models; a .th has its checksum in its name
            name = path.stem if path.suffix == ".yaml" else path.stem.rsplit("-", 1)[0]
            loaded = get_model(name, repo=path.parent)
        else:
            name, loaded = model, get_model(model)
    if isinstance(loaded, BagOfModels):
        source = loaded.sources.index("vocals")
        models: list[Any] = list(loaded.models)
        used = [index for index, weights in enumerate(loaded.weights) if weights[source]]
        loaded = BagOfModels([models[index] for index in used], [loaded.weights[index] for index in used])
        loaded.segment = models[used[0]].segment
    return loaded.eval(), name


@contextmanager
def _known_classes(hf: Any) -> Iterator[None]:
    """Demucs imports and calls whatever the metadata of a .safetensors file names as its class: here, models only."""
    from safetensors import safe_open

    load_any = hf.load_safetensors_model

    def load_known(path: Any) -> Any:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("klass") not in _CLASSES or "_class" in metadata.get("structure", ""):
            raise ValueError(f"{Path(path).name} is no model of Demucs: its class is {metadata.get('klass')!r}")
        return load_any(path)

    hf.load_safetensors_model = load_known
    try:
        yield
    finally:
        hf.load_safetensors_model = load_any
