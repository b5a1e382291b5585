"""Known voices: how often somebody absent is named, and somebody present is not, by seconds of speech.

    python -m bench.voices [--more FOLDER] [--gallery 4]

Leave one out: of every speaker, speech of the seconds asked for is enrolled, and other speech of them is what a
recording holds. Present: the speaker is among the voices known to the request. Absent: only others are. Speakers are
those of the open recordings: few of them, who speak for some seconds. FOLDER adds others: a folder of recordings for
each speaker, or one recording; LibriSpeech unpacked is of this kind. Telephone: what is enrolled went through a
telephone's band with noise at 15 dB, the recording did not.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfilt

from diarserve.voices.matching import FEW, MARGIN, confidence, threshold
from tests.support.conversations import LOUDNESS, voices
from tests.support.drive import drive, with_audio
from tests.support.recordings import SHARED, decoded
from workers.diarize.embedded.engine import EmbeddedDiarizer
from workers.diarize.embedded.voices import pieces_of, solo
from workers.engine import WorkItem
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, Diarize

SECONDS = (2, 5, 10, 30)
DRAWS = 60  # of each speaker
LONGEST = 20.0  # seconds used of one file
BAND, NOISE = (300, 3400), 0.18  # Hz; of the loudness: 15 dB below it
THRESHOLDS = (0.45, 0.5, 0.55, 0.57, 0.6, 0.65)

Vector = npt.NDArray[np.float32]
Pieces = list[tuple[float, Vector]]  # seconds, embedding


@dataclass(frozen=True, slots=True)
class Speaker:
    plain: list[Pieces]  # by utterance
    telephone: list[Pieces]


class Recordings:
    def __init__(self) -> None:
        self.engine = EmbeddedDiarizer()
        self.random = np.random.default_rng(0)
        self.band = butter(4, BAND, btype="band", fs=SAMPLE_RATE, output="sos")

    def open(self) -> dict[str, Speaker]:
        found: dict[str, Sequence[Samples]] = dict(voices())
        podcast = decoded(SHARED / "podcast.opus")
        turns = with_audio(podcast, lambda audio: drive(self.engine, Diarize(audio))).turns  # no others are known
        for speaker, spans in solo(turns).items():
            parts = [podcast[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] for start, end in spans]
            found[f"podcast {speaker}"] = [part for part in parts if len(part) > 0.6 * SAMPLE_RATE]
        return {name: self.speaker(utterances) for name, utterances in found.items()}

    def more(self, folder: Path) -> dict[str, Speaker]:
        kinds = (".flac", ".mp3", ".wav")
        return {
            place.name: self.speaker(
                [
                    decoded(file)
                    for file in sorted([place] if place.is_file() else place.iterdir())
                    if file.suffix in kinds
                ]
            )
            for place in sorted(folder.iterdir())
            if place.is_dir() or place.suffix in kinds
        }

    def speaker(self, utterances: Sequence[Samples]) -> Speaker:
        parts = [utterance[: round(LONGEST * SAMPLE_RATE)] for utterance in utterances]
        parts = [(part * (LOUDNESS / np.sqrt(np.mean(part**2)))).astype(np.float32) for part in parts]
        return Speaker([self.embedded(part) for part in parts], [self.embedded(self.telephone(part)) for part in parts])

    def telephone(self, samples: Samples) -> Samples:
        noise = self.random.normal(0, NOISE * LOUDNESS, len(samples))
        return np.asarray(sosfilt(self.band, samples) + noise, dtype=np.float32)

    def embedded(self, samples: Samples) -> Pieces:
        pieces = pieces_of([(0, len(samples) / SAMPLE_RATE)], len(samples))
        found: Pieces = []
        for first in range(0, len(pieces), 32):
            batch = pieces[first : first + 32]
            outputs = self.engine.run([WorkItem("embed", (samples, piece)) for piece in batch])
            found += [(len(piece) / 100, output) for piece, output in zip(batch, outputs, strict=True)]
        return found


def drawn(pieces: Sequence[tuple[float, Vector]], seconds: float) -> tuple[Vector | None, int]:
    """The mean voice of the first pieces that make so many seconds, and how many they are. None: there are too few."""
    lengths = np.cumsum([length for length, _ in pieces])
    enough = int(np.searchsorted(lengths, 0.9 * seconds)) + 1
    if enough > len(pieces):
        return None, enough
    mean = np.sum([length * vector for length, vector in pieces[:enough]], axis=0)
    return mean / np.linalg.norm(mean), enough


@dataclass(frozen=True, slots=True)
class Trial:
    speaker: str
    own: float | None  # cosine to the speaker's own voice; None where that is not known
    others: tuple[float, ...]  # to those of others, descending

    def named(self, least: float, margin: float) -> bool | None:
        """Whether the right name was given; None: no name was."""
        ranked = sorted([*self.others, *([] if self.own is None else [self.own])], reverse=True)
        if ranked[0] < least or (len(ranked) > 1 and ranked[0] - ranked[1] < margin):
            return None
        return ranked[0] == self.own


def trials(
    speakers: Mapping[str, Speaker], enrolled: float, heard: float, *, telephone: bool, gallery: int, seed: int = 0
) -> list[Trial]:
    """Of every speaker with speech enough, each twice: present and absent."""
    random = np.random.default_rng(seed)
    names = list(speakers)
    known: dict[str, list[Vector]] = {}
    pairs: list[tuple[str, Vector, Vector | None]] = []
    for name, speaker in speakers.items():
        for _ in range(DRAWS if len(names) < 100 else DRAWS // 3):
            order = [int(index) for index in random.permutation(len(speaker.plain))]
            plain = [piece for index in order for piece in speaker.plain[index]]
            enrol = [piece for index in order for piece in (speaker.telephone if telephone else speaker.plain)[index]]
            voice, used = drawn(enrol, enrolled)
            if len(order) > 1 and voice is not None:  # other utterances, where there are such
                ends = np.cumsum([len(speaker.plain[index]) for index in order])
                used = int(ends[np.searchsorted(ends, used)])
            if voice is not None:
                known.setdefault(name, []).append(voice)
            probe, _ = drawn(plain[used:] if voice is not None else plain, heard)
            if probe is not None:
                pairs.append((name, probe, voice))
            elif (alone := drawn(plain, heard)[0]) is not None:
                pairs.append((name, alone, None))
    made = []
    for name, probe, voice in pairs:
        others = [other for other in known if other != name]
        if len(others) < gallery:
            continue
        chosen = [known[others[i]][0] for i in random.choice(len(others), gallery, replace=False)]
        cosines = sorted((float(probe @ vector) for vector in chosen), reverse=True)
        made.append(Trial(name, None, tuple(cosines)))
        if voice is not None:
            made.append(Trial(name, float(probe @ voice), tuple(cosines[1:])))
    return made


def row(found: Sequence[Trial], least: float, margin: float) -> str:
    present, absent = [t for t in found if t.own is not None], [t for t in found if t.own is None]
    if not present or not absent:
        return "too little speech"
    false = np.mean([t.named(least, margin) is not None for t in absent])
    named = [t.named(least, margin) for t in present]
    missed, wrong = np.mean([one is None for one in named]), np.mean([one is False for one in named])
    people = len({t.speaker for t in present}), len({t.speaker for t in absent})
    return f"{false:7.2%} ({people[1]:3d} people) {missed:7.2%} {wrong:7.2%} ({people[0]:3d} people)"


def report(speakers: Mapping[str, Speaker], gallery: int) -> None:
    for telephone in (False, True):
        print(f"\n{'enrolled by telephone' if telephone else 'enrolled like recorded'}: {len(speakers)} speakers")
        print("enrolled  heard   absent: named            present: missed, misnamed")
        everything = []
        for enrolled in SECONDS:
            for heard in (2, 5, 10):
                found = trials(speakers, enrolled, heard, telephone=telephone, gallery=gallery)
                everything += found
                print(f"{enrolled:6d} s {heard:4d} s   {row(found, threshold(gallery), MARGIN)}")
        for least in THRESHOLDS:
            for margin in (0.0, MARGIN):
                print(f"threshold {least:.2f} margin {margin:.2f}: {row(everything, least, margin)}")
        calibration(everything)


def calibration(found: Sequence[Trial]) -> None:
    """How often the best voice was the right one, by its cosine; as many trials are present as absent."""
    best = [(max(t.own, *t.others), t.own > max(t.others)) for t in found if t.own is not None]
    best += [(t.others[0], False) for t in found if t.own is None][: len(best)]
    cosines, right = np.array([cosine for cosine, _ in best]), np.array([own for _, own in best])
    for low in np.arange(0.2, 0.9, 0.1):
        inside = (cosines >= low) & (cosines < low + 0.1)
        if inside.any():
            said = np.mean([confidence(cosine) for cosine in cosines[inside]])
            share = right[inside].mean()
            print(f"cosine {low:.1f} to {low + 0.1:.1f}: right {share:6.1%} of {inside.sum()}, confidence {said:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--more", type=Path, help="a folder of other speakers")
    parser.add_argument("--gallery", type=int, default=FEW, help="voices that a request knows")
    arguments = parser.parse_args()
    recordings = Recordings()
    print("# the open recordings")
    report(recordings.open(), min(arguments.gallery, FEW))
    if arguments.more:
        print(f"\n# {arguments.more}")
        report(recordings.more(arguments.more), arguments.gallery)


if __name__ == "__main__":
    main()
