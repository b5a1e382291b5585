"""Speech freed of noise by RNNoise (https://jmvalin.ca/demo/rnnoise), whose weights ship inside the package pyrnnoise.

The network is recurrent and works at 48 kHz: a job is a chain of steps, and its state stays with the job.
"""

from __future__ import annotations

import ctypes
from collections.abc import Generator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from workers.engine import Engine, JobSteps, StepOutputs, WorkItem
from workers.media.samples import Samples, create, load
from workers.messages import SAMPLE_RATE, AudioRef, Request, Separate, Separation

RATE = 48_000
FRAME = 480
DELAY = 2 * FRAME  # samples at 48 kHz that the output is late: a frame for the overlap, one of look-ahead
SCALE = 32_768.0  # the library's samples are those of 16-bit audio
STEP_SECONDS = 60
LEVEL_FRAME = 320  # samples
SILENCE = 1e-10  # power: digital silence is no cleaner than that of good microphones
YIELD_FRAMES = 100  # after so many a step can be left


class RNNoise(Engine):
    def __init__(self, *, parallel: int = 1, original: float = 0.3, clean: float = 20.0) -> None:
        """`original`: the share of the original that is mixed in. Recognizers stumble over what RNNoise does to speech
        more than over some noise (bench/separation.py; "observation adding" in https://arxiv.org/abs/2201.06685). A
        recording whose speech is `clean` dB over its pauses is left as it is: there RNNoise costs accuracy, of words
        and more of turns."""
        self.parallel, self.clean = parallel, clean
        self.original = np.float32(original)
        self._library = _load()
        for _ in Denoiser(self._library).feed(np.zeros(SAMPLE_RATE, np.float32), last=True):
            pass

    def describe(self) -> Mapping[str, Any]:
        return {"model": "rnnoise", "device": "cpu"}

    def job(self, request: Request) -> JobSteps:
        if not isinstance(request, Separate):
            raise TypeError(f"{type(request).__name__} is not for RNNoise")
        return self._job(request)

    def _job(self, request: Separate) -> JobSteps:
        samples = load(request.audio)
        size = left = samples.size
        [level] = yield [WorkItem("level", samples, span=(0.0, 0.02))]
        if level >= self.clean:
            warning = (
                f"source_separation was not needed: there is no noise to speak of (speech is {level:.0f} dB over it)"
            )
            return Separation(request.audio, None, (warning,))
        denoiser = Denoiser(self._library)
        with create(request.target) as file:
            for start in range(0, size, STEP_SECONDS * SAMPLE_RATE):
                part = samples[start : start + STEP_SECONDS * SAMPLE_RATE]
                end = start + part.size
                [clean] = yield [WorkItem("denoise", (denoiser, part, end == size), span=(start / size, end / size))]
                clean = clean[:left]
                original = samples[size - left : size - left + clean.size]
                file.write((clean + self.original * (original - clean)).data)
                left -= clean.size
        return Separation(AudioRef(request.target, size), "rnnoise")

    def run(self, items: Sequence[WorkItem]) -> StepOutputs:
        [item] = items
        if item.key == "level":
            return [over_pauses(item.payload)]
        return self._denoise(item)

    def _denoise(self, item: WorkItem) -> Generator[None, None, list[Samples]]:
        denoiser, part, last = item.payload
        clean = yield from denoiser.feed(part, last)
        return [clean]


def over_pauses(samples: Samples) -> float:
    """How loud the loudest tenth of a recording is over its quietest tenth, by frames of 20 ms: dB."""
    frames = samples[: samples.size // LEVEL_FRAME * LEVEL_FRAME].reshape(-1, LEVEL_FRAME)
    if not len(frames):
        return 0.0
    power = np.einsum("ij,ij->i", frames, frames) / LEVEL_FRAME + SILENCE
    quiet, loud = np.quantile(power, (0.1, 0.9))
    return float(10 * np.log10(loud / quiet))


class Denoiser:
    """One recording on its way through RNNoise. What comes out is in time with what went in.

    The library's state is in a buffer of this object: it is freed after the last step that uses it, even if the job was
    cancelled before.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._process = library.rnnoise_process_frame
        self._state = ctypes.create_string_buffer(library.rnnoise_get_size())
        library.rnnoise_init(self._state, None)
        self._up = soxr.ResampleStream(SAMPLE_RATE, RATE, 1, dtype="float32")
        self._down = soxr.ResampleStream(RATE, SAMPLE_RATE, 1, dtype="float32")
        self._rest = np.zeros(0, np.float32)  # less than a frame
        self._late = DELAY  # samples still to be dropped

    def feed(self, samples: Samples, last: bool) -> Generator[None, None, Samples]:
        """Returns samples at 16 kHz: over all calls at least as many as went in."""
        tail = np.zeros(DELAY + FRAME - 1 if last else 0, np.float32)
        raised = self._up.resample_chunk(np.ascontiguousarray(samples), last=last)
        held = np.concatenate([self._rest, raised * np.float32(SCALE), tail])
        frames, self._rest = np.split(held, [held.size // FRAME * FRAME])
        for number in range(frames.size // FRAME):
            frame = frames.ctypes.data + number * FRAME * frames.itemsize
            self._process(self._state, frame, frame)
            if number % YIELD_FRAMES == YIELD_FRAMES - 1:
                yield
        skipped = min(self._late, frames.size)
        self._late -= skipped
        clean: Samples = self._down.resample_chunk(frames[skipped:] / np.float32(SCALE), last=last)
        return clean


def _load() -> ctypes.CDLL:
    """The library without its Python package, which imports much else."""
    spec = find_spec("pyrnnoise")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("pyrnnoise is not installed")
    library = ctypes.CDLL(str(Path(spec.submodule_search_locations[0]) / "librnnoise.so"))
    library.rnnoise_init.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.rnnoise_process_frame.argtypes = [ctypes.c_void_p] * 3
    library.rnnoise_process_frame.restype = ctypes.c_float
    return library
