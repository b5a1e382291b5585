"""Conversations of known turns, made from recordings in which one person speaks: for thresholds that must not rest on
a handful of real meetings.

samples, turns = conversation(voices(), seed=7)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import av
import numpy as np

from tests.support.recordings import SHARED, decoded, sample
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, Turn

SHORTEST = 0.6  # seconds of speech that make an utterance
LOUDNESS = 0.05  # root mean square of every utterance
NOISE = 0.0005  # of the room that all are in


def voices() -> dict[str, list[Samples]]:
    """Utterances by voice, from the stretches of the open recordings in which nobody else speaks. Only those of the
    packaged telephone call where the shared recordings are not there."""
    found = _solos(sample(), _rttm(sample(".rttm"), "sample"), "call")
    if SHARED.is_dir():
        for name in ("dev00", "dev01"):
            for voice, utterances in _solos(
                SHARED / f"{name}.wav", _rttm(SHARED / "dev.rttm", name), "meeting"
            ).items():
                found.setdefault(voice, []).extend(utterances)  # both have the same two people
        found["jfk"] = _utterances(decoded(SHARED / "jfk.flac"))
        found["hotwords"] = _utterances(decoded(SHARED / "hotwords.mp3"))
        for side, channel in zip(("left", "right"), _channels(SHARED / "stereo_diarization.wav"), strict=True):
            found[side] = _utterances(channel)
    return {voice: utterances for voice, utterances in found.items() if utterances}


def conversation(
    voices: Mapping[str, Sequence[Samples]],
    seed: int,
    *,
    speakers: int = 3,
    seconds: float = 60.0,
    overlap: float = 0.3,
) -> tuple[Samples, list[Turn]]:
    """So many of the voices in turn, the same for the same seed. `overlap`: the share of turns that begin before the
    one before has ended, by up to 1.5 s or half of either."""
    mixed, spoken = parts(voices, seed, speakers=speakers, seconds=seconds, overlap=overlap)
    for turn, utterance in spoken:
        start = round(turn.start * SAMPLE_RATE)
        mixed[start : start + len(utterance)] += utterance
    return mixed, [turn for turn, _ in spoken]


def parts(
    voices: Mapping[str, Sequence[Samples]], seed: int, *, speakers: int, seconds: float, overlap: float
) -> tuple[Samples, list[tuple[Turn, Samples]]]:
    """What a conversation is the sum of: the room's noise, and each turn with its utterance."""
    random = np.random.default_rng(seed)
    chosen = [str(voice) for voice in random.choice(sorted(voices), speakers, replace=False)]
    noise = random.normal(0, NOISE, round(seconds * SAMPLE_RATE)).astype(np.float32)
    spoken: list[tuple[Turn, Samples]] = []
    at, last = 0, -1
    while True:
        who = int(random.choice([speaker for speaker in range(speakers) if speaker != last]))
        utterance = _excerpt(voices[chosen[who]][int(random.integers(len(voices[chosen[who]])))], random)
        if spoken and random.random() < overlap:
            before = spoken[-1][0].end - spoken[-1][0].start
            shared = min(1.5, before / 2, len(utterance) / SAMPLE_RATE / 2) * random.uniform(0.3, 1.0)
            start = at - round(shared * SAMPLE_RATE)
        else:
            start = at + round(random.exponential(0.4) * SAMPLE_RATE)
        end = start + len(utterance)
        if end > len(noise):
            return noise, spoken
        spoken.append((Turn(start / SAMPLE_RATE, end / SAMPLE_RATE, chosen[who]), utterance))
        at, last = max(at, end), who


def _excerpt(utterance: Samples, random: np.random.Generator) -> Samples:
    """Of a long utterance any part, so that no two turns are the same."""
    shortest = min(len(utterance), round(SHORTEST * SAMPLE_RATE))
    length = int(random.integers(shortest, len(utterance), endpoint=True))
    first = int(random.integers(len(utterance) - length, endpoint=True))
    return utterance[first : first + length]


def _rttm(path: Path, name: str) -> list[Turn]:
    with path.open() as file:
        fields = [line.split() for line in file if line.strip()]
    return [Turn(float(f[3]), float(f[3]) + float(f[4]), f[7]) for f in fields if f[1] == name]


def _solos(path: Path, turns: Sequence[Turn], prefix: str) -> dict[str, list[Samples]]:
    samples = decoded(path)
    found: dict[str, list[Samples]] = {}
    for turn in turns:
        alone = np.ones(round((turn.end - turn.start) * SAMPLE_RATE), dtype=np.bool_)
        for other in turns:
            if other is not turn:
                first, past = (round((time - turn.start) * SAMPLE_RATE) for time in (other.start, other.end))
                alone[max(0, first) : max(0, past)] = False
        edges = np.flatnonzero(np.diff(alone, prepend=False, append=False))
        for first, past in zip(edges[::2], edges[1::2], strict=True):
            begin = round(turn.start * SAMPLE_RATE)
            found.setdefault(f"{prefix} {turn.speaker}", []).extend(_utterances(samples[begin + first : begin + past]))
    return found


def _utterances(samples: Samples, pause: float = 0.3) -> list[Samples]:
    """Cut where it is quiet for `pause` seconds, each as loud as the others."""
    hop = SAMPLE_RATE // 100
    power = np.square(samples[: len(samples) // hop * hop].reshape(-1, hop)).mean(axis=1)
    loud = power > 0.05 * np.mean(power)
    for first, past in _runs(~loud):
        if past - first < pause * 100 and first and past < len(loud):
            loud[first:past] = True
    cut = [samples[first * hop : past * hop] for first, past in _runs(loud) if past - first >= SHORTEST * 100]
    return [(piece * (LOUDNESS / np.sqrt(np.square(piece).mean()))).astype(np.float32) for piece in cut]


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _channels(path: Path) -> np.ndarray:
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=SAMPLE_RATE)
    with av.open(str(path)) as container:
        frames = [piece for frame in container.decode(audio=0) for piece in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray() for frame in [*frames, *resampler.resample(None)]], axis=1)
