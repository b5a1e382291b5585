"""The real recordings, and longer ones built from them."""

from __future__ import annotations

import itertools
import wave
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np

from tests.support import paths
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE

SHARED = paths.SHARED / "audio"  # not on every machine


def packaged(package: str, *parts: str) -> Path:
    """A file inside an installed package, found without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(package)
    return Path(next(iter(spec.submodule_search_locations)), *parts)


def sample(suffix: str = ".wav") -> Path:
    """A 30 s telephone call of two speakers, shipped by pyannote.audio; also .rttm (turns) and .stm (words)."""
    return packaged("pyannote", "audio", "sample", "sample" + suffix)


def speech(seconds: float) -> Samples:
    """That much real speech: the recordings one after the other, again and again. float32 mono 16 kHz."""
    names = ("sample.wav", "podcast.opus", "dev00.wav", "jfk.flac", "dev01.wav", "hotwords.mp3")
    paths = [SHARED / name for name in names] if SHARED.is_dir() else [sample()]
    pieces, length, wanted = [], 0, round(seconds * SAMPLE_RATE)
    for piece in itertools.cycle([decoded(path) for path in paths]):
        pieces.append(piece)
        length += len(piece)
        if length >= wanted:
            return np.concatenate(pieces)[:wanted]
    raise AssertionError("unreachable")


def decoded(path: Path) -> Samples:
    """float32 mono 16 kHz samples of a recording."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(path)) as container:
        frames = [piece for frame in container.decode(audio=0) for piece in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def write_wav(path: Path, samples: Samples, times: float = 1.0) -> None:
    """16-bit mono 16 kHz; so many `times` one after the other."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2")
        left = round(times * len(pcm))
        while left:
            file.writeframes(pcm[:left].tobytes())
            left -= min(left, len(pcm))


def clips(folder: Path, count: int, seconds: float) -> list[Path]:
    """That many WAV files of different real speech."""
    samples = speech(count * seconds) if count else np.zeros(0, np.float32)
    paths = [folder / f"clip-{number}.wav" for number in range(count)]
    for path, piece in zip(paths, np.split(samples, count) if count else [], strict=True):
        write_wav(path, piece)
    return paths


def excerpt(source: Path, start: float, end: float, target: Path) -> Path:
    """Of a recording, the seconds from `start` to `end`, as a WAV file."""
    write_wav(target, decoded(source)[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)])
    return target
