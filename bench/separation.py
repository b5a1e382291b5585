"""`python -m bench.separation`: what separation does to the words, with speech in music, noise and babble.

The speech is real, with references: the 30 s telephone call that pyannote.audio ships and, where they lie beside the
checkout, 11 s of Kennedy. The babble is five other real recordings at once. The music is synthetic: chords, a bass and
drums, with nobody singing, since no recorded music is at hand.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from math import inf
from pathlib import Path

import jiwer
import numpy as np
import numpy.typing as npt

from bench.results import arguments, publish, table
from bench.scoring import stm_lines
from tests.support.drive import drive
from tests.support.recordings import SHARED, decoded, sample
from tests.support.text import plain
from workers.engine import Engine
from workers.media.samples import Samples, load
from workers.messages import SAMPLE_RATE, AudioRef, Separate, Transcribe
from workers.separate.rnnoise import RNNoise
from workers.whisper.engine import Whisper

LEVELS = (10, 5, 0)  # dB of speech over the rest
SEEDS = 2  # mixtures of each kind and level
QUIET = 30.0  # dB under the loudest frame: what is quieter is a pause, and does not count as speech
Sound = npt.NDArray[np.float64]
KENNEDY = "And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your country."


@dataclass(slots=True)
class Score:
    """One way of doing it, over all mixtures of a kind and level."""

    said: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of CPU, for separation

    def wer(self) -> float:
        rate: float = jiwer.wer(self.said, self.heard)
        return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demucs", metavar="MODEL", help="Demucs too: a name or a file")
    asked = arguments(parser)
    whisper = Whisper()
    separators: dict[str, Engine] = {"RNNoise": RNNoise(), "RNNoise alone": RNNoise(original=0.0, clean=inf)}
    if asked.demucs:
        from workers.separate.demucs import Demucs

        separators["Demucs"] = Demucs(model=asked.demucs)
    speech = recordings()
    rows, spent, heard = [], dict.fromkeys(separators, 0.0), 0.0
    for name, make in backgrounds().items():
        for level in LEVELS if make else (None,):
            scores = {way: Score() for way in ("as it is", *separators)}
            for seed in range(SEEDS if make else 1):
                for samples, said in speech:
                    mixture = mixed(samples, make, level, seed)
                    listen(whisper, separators, mixture, said, scores)
                    heard += mixture.size / SAMPLE_RATE
            for way in separators:
                spent[way] += scores[way].seconds
            rows.append(
                (name, "" if level is None else f"{level} dB", *(f"{one.wer():.3f}" for one in scores.values()))
            )
            print(*rows[-1], file=sys.stderr, flush=True)
    seconds = sum(samples.size for samples, _ in speech) / SAMPLE_RATE
    words = sum(len(said.split()) for _, said in speech)
    costs = ", ".join(f"{way} {cost / heard:.3f}" for way, cost in spent.items())
    body = (
        f"WER of {whisper.name} on {seconds:.0f} s of real speech ({words} words) in a background, {SEEDS} mixtures of"
        " each kind and level: as it is, and with separation first. The music is synthetic (chords, bass and drums,"
        " nobody sings); the babble is five other real recordings at once.\n\n"
        + table(("background", "speech over it", "as it is", *separators), rows)
        + f"\n\nCPU seconds of separation per second of audio: {costs}."
    )
    publish("separation", "Source separation", body, {"rows": rows, "words": words}, asked)


def listen(
    whisper: Whisper, separators: Mapping[str, Engine], mixture: Samples, said: str, scores: Mapping[str, Score]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ref = AudioRef(str(Path(folder, "mixture.f32")), mixture.size)
        mixture.tofile(ref.path)
        refs = {"as it is": ref}
        for way, engine in separators.items():
            started = time.process_time()
            refs[way] = drive(engine, Separate(ref, str(Path(folder, f"{way}.f32")))).audio
            scores[way].seconds += time.process_time() - started
        for way, each in refs.items():
            found = drive(whisper, Transcribe(each)).words
            scores[way].said.append(said)
            scores[way].heard.append(plain(" ".join(word.word for word in found)))
            assert load(each).size == mixture.size


def recordings() -> list[tuple[Samples, str]]:
    """Speech, and what is said in it."""
    said = " ".join(text for _, text in sorted(stm_lines(sample(".stm")).values()))
    speech = [(decoded(sample()), plain(said))]
    if SHARED.is_dir():
        speech.append((decoded(SHARED / "jfk.flac"), plain(KENNEDY)))
    return speech


Background = Callable[[int, np.random.Generator], Samples]  # of so many samples


def backgrounds() -> dict[str, Background | None]:
    made: dict[str, Background | None] = {
        "none": None,
        "music (synthetic)": music,
        "white noise": white,
        "pink noise": pink,
    }
    if SHARED.is_dir():
        names = ("dev00.wav", "dev01.wav", "podcast.opus", "hotwords.mp3", "multilingual.mp3")
        voices = [decoded(SHARED / name) for name in names]
        made["babble of five"] = lambda size, random: babble(voices, size, random)
    return made


def mixed(speech: Samples, make: Background | None, level: float | None, seed: int) -> Samples:
    if make is None or level is None:
        return speech
    background = make(speech.size, np.random.default_rng(seed))
    gain = np.sqrt(power(speech) / np.mean(np.square(background)) / 10 ** (level / 10))
    mixture = speech + gain.astype(np.float32) * background
    return np.asarray(mixture / max(1.0, float(np.abs(mixture).max())), np.float32)


def power(speech: Samples) -> float:
    """Mean square of speech without its pauses."""
    frames = speech[: speech.size // 320 * 320].reshape(-1, 320)
    energies = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return float(energies[energies > energies.max() / 10 ** (QUIET / 10)].mean())


def white(size: int, random: np.random.Generator) -> Samples:
    return random.standard_normal(size).astype(np.float32)


def pink(size: int, random: np.random.Generator) -> Samples:
    spectrum = np.fft.rfft(random.standard_normal(size))
    spectrum /= np.sqrt(np.maximum(1, np.arange(spectrum.size)))
    return np.asarray(np.fft.irfft(spectrum, size), np.float32)


def babble(voices: Sequence[Samples], size: int, random: np.random.Generator) -> Samples:
    """All voices at once, equally loud, each from somewhere in its recording."""
    total = np.zeros(size, np.float32)
    for voice in voices:
        total += np.resize(np.roll(voice, int(random.integers(voice.size))), size) / np.float32(np.sqrt(power(voice)))
    return total


def music(size: int, random: np.random.Generator) -> Samples:
    """A pop song's four chords, in some key and tempo: a pad, a bass, a kick, a snare and a hi-hat."""
    beat = int(SAMPLE_RATE * 60 / random.uniform(90, 130))
    root = 220 * 2 ** (random.integers(12) / 12)
    total = np.zeros(size + 8 * beat)
    chords = ((0, 4, 7), (7, 11, 14), (9, 12, 16), (5, 9, 12))  # I V vi IV
    for number, chord in enumerate(islice(cycle(chords), size // (4 * beat) + 1)):
        bar = number * 4 * beat
        for step in chord:
            add(total, bar, 0.25 * note(root * 2 ** (step / 12), 4 * beat, 6, 1.0))
        for place in range(4):
            start = bar + place * beat
            add(total, start, 0.6 * note(root / 4 * 2 ** (chord[0] / 12), beat, 4, 4.0))
            add(total, start, kick() if place % 2 == 0 else 0.6 * hit(random, 0.15))
            for half in (0, beat // 2):
                add(total, start + half, 0.2 * np.diff(hit(random, 0.04), prepend=0.0))
    return total[:size].astype(np.float32)


def add(total: Sound, start: int, sound: Sound) -> None:
    end = min(total.size, start + sound.size)
    total[start:end] += sound[: max(0, end - start)]


def note(frequency: float, size: int, harmonics: int, decay: float) -> Sound:
    """Harmonics that fall with their number, an attack of 10 ms, and an exponential decay (1/s)."""
    seconds = np.arange(size) / SAMPLE_RATE
    waves = sum(np.sin(2 * np.pi * frequency * number * seconds) / number for number in range(1, harmonics + 1))
    return np.asarray(waves * np.minimum(1, seconds / 0.01) * np.exp(-decay * seconds))


def kick() -> Sound:
    seconds = np.arange(SAMPLE_RATE // 5) / SAMPLE_RATE
    return np.asarray(np.sin(2 * np.pi * (50 * seconds + 5 * (1 - np.exp(-30 * seconds)))) * np.exp(-15 * seconds))


def hit(random: np.random.Generator, seconds: float) -> Sound:
    size = int(seconds * SAMPLE_RATE)
    return np.asarray(random.standard_normal(size) * np.exp(-4 * np.arange(size) / size))


if __name__ == "__main__":
    main()
