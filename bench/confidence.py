"""`make confidence`: whether words are as often right in their speaker as their `speaker_confidence` says.

Words by Whisper, on the recordings whose turns are known and on made conversations. Each recording's confidences come
from a fit on all the others. `before` is what stands where a diarizer gives no activity: the share that turns cover.

A word's true speaker: in a made conversation whose utterance is loudest during it; elsewhere whose turn, by the
reference, covers most of it, and words of which two cover as much are left out.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment, minimize
from scipy.stats import mannwhitneyu

from bench import results
from bench.accuracy import SCORED, references
from diarserve.transcript.confidence import margins
from diarserve.transcript.merge import LabelledWord, label
from tests.support.conversations import parts, voices
from tests.support.diarization_error import rttm_turns
from tests.support.drive import drive, with_audio
from tests.support.recordings import SHARED, decoded
from workers.diarize.embedded.engine import CALIBRATION, EmbeddedDiarizer
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, Diarization, Diarize, Transcribe, Turn, Word
from workers.whisper.engine import Whisper

ALONE = ("jfk.flac", "hotwords.mp3")  # recordings of one speaker
BINS = 10
Truth = Callable[[Word], str | None]  # a word's true speaker, where that is known
Floats = npt.NDArray[np.float64]


class Judged(NamedTuple):
    """A word with its speaker."""

    recording: str
    coverage: float
    margin: float
    right: bool
    weight: float  # a recording counts once, however many grids of windows it was diarized on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grids", type=int, default=4, help="of windows, for the real recordings")
    parser.add_argument("--synthetic", type=int, default=16, help="made conversations, each on two grids")
    asked = results.arguments(parser)
    words = list(judged(asked.grids, asked.synthetic))
    said = {"before": np.array([word.coverage for word in words]), "calibrated": held_out(words)}
    bins = {name: reliability(words, confidence) for name, confidence in said.items()}
    results.publish("confidence", "Confidence in speakers", report(words, said, bins), {"bins": bins}, asked)


def judged(grids: int, synthetic: int) -> Iterator[Judged]:
    diarizer, whisper = EmbeddedDiarizer(), Whisper()
    for name, samples, truth, count in recordings(grids, synthetic):
        words: Sequence[Word] = with_audio(samples, lambda ref: drive(whisper, Transcribe(ref)).words)
        for grid in range(count):
            diarizer.first = round(grid * diarizer.step / count)
            found: Diarization = with_audio(samples, lambda ref: drive(diarizer, Diarize(ref)))
            yield from _judged(name, words, found, truth, 1 / count)


def recordings(grids: int, synthetic: int) -> Iterator[tuple[str, Samples, Truth, int]]:
    """Name, samples, truth, and on how many grids."""
    for name, path, rttm in references():
        yield name, decoded(path), _by_turns(rttm_turns(rttm, name)), grids
    if SHARED.is_dir():
        for file in ALONE:
            yield file, decoded(SHARED / file), lambda _: "the only one", grids
    of = voices()
    for seed in range(synthetic):
        noise, spoken = parts(of, seed, speakers=min(2 + seed % 4, len(of)), seconds=60.0, overlap=0.3)
        mixed = noise.copy()
        for turn, utterance in spoken:
            mixed[_first(turn) : _first(turn) + len(utterance)] += utterance
        yield f"made {seed}", mixed, _by_loudness(spoken), 2


def _first(turn: Turn) -> int:
    return round(turn.start * SAMPLE_RATE)


def _by_turns(turns: Sequence[Turn]) -> Truth:
    def speaker(word: Word) -> str | None:
        shared = Counter[str]()
        for turn in turns:
            shared[turn.speaker] += round(1000 * max(0.0, min(turn.end, word.end) - max(turn.start, word.start)))
        (most, time), *others = [*shared.most_common(2), ("", 0)]
        return most if word.end <= SCORED and time - others[0][1] > 20 else None

    return speaker


def _by_loudness(spoken: Sequence[tuple[Turn, Samples]]) -> Truth:
    def speaker(word: Word) -> str | None:
        energy = Counter[str]()
        begin, end = round(word.start * SAMPLE_RATE), round(word.end * SAMPLE_RATE)
        for turn, utterance in spoken:
            part = utterance[max(0, begin - _first(turn)) : max(0, end - _first(turn))]
            energy[turn.speaker] += float(np.dot(part, part))  # type: ignore[assignment]
        [(loudest, power)] = energy.most_common(1)
        return loudest if power > 0 else None

    return speaker


def _judged(name: str, words: Sequence[Word], found: Diarization, truth: Truth, weight: float) -> Iterator[Judged]:
    assert found.activity
    margin_of = margins(found.activity)
    known: list[tuple[LabelledWord, str]] = []
    for said, word in zip(label(words, found.turns), words, strict=True):
        if speaker := truth(word):
            known.append((said, speaker))
    pairs = Counter((said.speaker, speaker) for said, speaker in known)
    rows, columns = ([*dict.fromkeys(pair[side] for pair in pairs)] for side in (0, 1))
    agreement = np.array([[pairs[one, two] for two in columns] for one in rows])
    name_of = {rows[one]: columns[two] for one, two in zip(*linear_sum_assignment(agreement, True), strict=True)}
    for said, speaker in known:
        margin = margin_of(said.speaker, said.start, said.end)
        if margin is not None:
            yield Judged(name, said.speaker_confidence, margin, name_of.get(said.speaker) == speaker, weight)


def fitted(words: Sequence[Judged]) -> tuple[float, float]:
    """Bias and slope of greatest likelihood."""
    margin, weight = (np.array([getattr(word, name) for word in words]) for name in ("margin", "weight"))
    sign = np.array([1 if word.right else -1 for word in words])
    found = minimize(lambda v: (weight * np.logaddexp(0, -sign * (v[0] + v[1] * margin))).sum(), [0.0, 5.0])
    return float(found.x[0]), float(found.x[1])


def held_out(words: Sequence[Judged]) -> Floats:
    """Every word's confidence by a fit on the other recordings."""
    fits = {
        name: fitted([word for word in words if word.recording != name]) for name in {word.recording for word in words}
    }
    odds = [fits[word.recording][0] + fits[word.recording][1] * word.margin for word in words]
    made: Floats = 1 / (1 + np.exp(-np.array(odds)))
    return made


def reliability(words: Sequence[Judged], confidence: Floats) -> list[dict[str, float]]:
    """Of each tenth of the confidences that has words: how many, their mean confidence, the share that is right."""
    right = np.array([word.right for word in words])
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {"from": bin / BINS, "words": int(some.sum()), "said": confidence[some].mean(), "right": right[some].mean()}
        for bin in range(BINS)
        if (some := place == bin).any()
    ]


def calibration_error(bins: Sequence[dict[str, float]]) -> float:
    """Expected calibration error (Naeini et al. 2015)."""
    total = sum(row["words"] for row in bins)
    return sum(row["words"] * abs(row["said"] - row["right"]) for row in bins) / total


def area(words: Sequence[Judged], confidence: Floats) -> float:
    """Probability that a word with its right speaker has more confidence than one with a wrong speaker (AUC)."""
    right = np.array([word.right for word in words])
    found = mannwhitneyu(confidence[right], confidence[~right])
    return float(found.statistic / (right.sum() * (~right).sum()))


def report(words: Sequence[Judged], said: dict[str, Floats], bins: dict[str, list[dict[str, float]]]) -> str:
    made = np.array([word.recording.startswith("made") for word in words])
    rows = []
    for title, chosen in (("all", made | True), ("made conversations", made), ("real recordings", ~made)):
        some = [word for word, take in zip(words, chosen, strict=True) if take]
        wrong = f"{sum(not word.right for word in some) / len(some):.3f}"
        for name, confidence in said.items():
            error = calibration_error(reliability(some, confidence[chosen]))
            rows.append([title, name, len(some), wrong, f"{error:.3f}", f"{area(some, confidence[chosen]):.3f}"])
    head = ["words of", "confidence", "words", "wrong speaker", "calibration error", "AUC"]
    sides = [
        [
            f"{row['from']:.1f}-{row['from'] + 1 / BINS:.1f}",
            name,
            row["words"],
            f"{row['said']:.3f}",
            f"{row['right']:.3f}",
        ]
        for name, some in bins.items()
        for row in some
    ]
    bias, slope = fitted(words)
    return "\n\n".join(
        [
            results.table(head, rows),
            results.table(["confidence", "which", "words", "its mean", "right"], sides),
            f"Bias and slope fitted on all: {bias:.2f} and {slope:.2f}; in use: {CALIBRATION[0]} and {CALIBRATION[1]}.",
        ]
    )


if __name__ == "__main__":
    main()
