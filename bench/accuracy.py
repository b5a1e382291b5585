"""`make accuracy`: how far the embedded models are from the references, on real recordings and on made conversations.

The windows of the segmentation network can begin anywhere, and that alone moves a rate by 0.02: every figure is the
mean over several grids of windows, with its spread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from bench import joining, results, scoring
from bench.scoring import stm_lines
from diarserve.transcript.merge import label
from tests.support.conversations import conversation, voices
from tests.support.diarization_error import Rates, der, rttm_turns, speakers
from tests.support.drive import drive, with_audio
from tests.support.recordings import SHARED, decoded, sample
from workers.diarize.embedded.engine import EmbeddedDiarizer
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, Diarization, Diarize, Transcribe, Turn, Word
from workers.whisper.engine import Whisper

COUNTED = {"podcast.opus": 3, "stereo_diarization.wav": 2, "jfk.flac": 1, "hotwords.mp3": 1}  # speakers; no turns known
SCORED = 30.0  # seconds of the real recordings
_RATES = ("DER", "smallest-largest", "missed", "false alarm", "confused")
_RULES: Mapping[str, Callable[[Sequence[Word], Sequence[Turn]], Sequence[Any]]] = {
    "diarserve": label,
    "whisperX": joining.whisperx,
    "whisper-diarization": joining.whisper_diarization,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grids", type=int, default=8, help="of windows, for the real recordings")
    parser.add_argument("--synthetic", type=int, default=12, help="made conversations, each on two grids")
    parser.add_argument("--accuracy", choices=("standard", "high"), default="standard", help="of [embedded]")
    asked = results.arguments(parser)
    diarizer = Grids(EmbeddedDiarizer(accuracy=asked.accuracy), asked.grids)
    body = [_real(diarizer), _counts(diarizer), _words(diarizer)]
    if asked.synthetic:
        body.insert(2, _synthetic(diarizer, asked.synthetic))
    body.append(f"The diarizer took {diarizer.cost():.2f} CPU seconds for a minute of audio.")
    if asked.accuracy == "standard":
        results.publish("accuracy", "Accuracy", "\n\n".join(body), {}, asked)
    else:
        results.publish("accuracy-high", 'Accuracy with `[embedded] accuracy = "high"`', "\n\n".join(body), {}, asked)


class Grids:
    """The diarizer on grids of windows whose second window starts 0, 1/n, 2/n, ... of the step later."""

    def __init__(self, diarizer: EmbeddedDiarizer, count: int) -> None:
        self.count = count
        self._diarizer = diarizer
        self._cpu = self._audio = 0.0  # seconds

    def turns(self, samples: Samples, given: int | None = None, grids: Iterable[int] | None = None) -> list[list[Turn]]:
        """Of each grid. given: the number of speakers, where it is told."""
        found = []
        for grid in range(self.count) if grids is None else grids:
            self._diarizer.first = round(grid * self._diarizer.step / self.count)
            began = time.process_time()
            answer: Diarization = with_audio(samples, lambda ref: drive(self._diarizer, Diarize(ref, given)))
            self._cpu += time.process_time() - began
            self._audio += len(samples) / SAMPLE_RATE
            found.append(list(answer.turns))
        return found

    def cost(self) -> float:
        """CPU seconds for a minute of audio, of all that was diarized."""
        return 60 * self._cpu / self._audio


def references() -> list[tuple[str, Path, Path]]:
    found = [("sample", sample(), sample(".rttm"))]
    if SHARED.is_dir():
        found += [(name, SHARED / f"{name}.wav", SHARED / "dev.rttm") for name in ("dev00", "dev01")]
    return found


def _real(diarizer: Grids) -> str:
    rows = []
    means: dict[bool, list[float]] = {False: [], True: []}  # whether the count was given
    for name, path, rttm in references():
        truth, samples = rttm_turns(rttm, name), decoded(path)
        for given in (None, speakers(truth)):
            found = diarizer.turns(samples, given)
            rates = [der(truth, turns, SCORED) for turns in found]
            means[given is not None].append(fmean(rate.der for rate in rates))
            rows.append([name, given or "no", _each(map(speakers, found)), *_columns(rates)])
    for told, values in means.items():
        rows.append(["mean of these", "yes" if told else "no", "", f"{fmean(values):.3f}", "", "", "", ""])
    head = ["recording", "count given", "speakers found", *_RATES]
    return f"Means ± standard deviations over {diarizer.count} grids of windows:\n\n{results.table(head, rows)}"


def _columns(rates: Sequence[Rates]) -> list[str]:
    values = [rate.der for rate in rates]
    parts = (fmean(column) for column in list(zip(*rates, strict=True))[1:])
    return [results.mean(values, 3), f"{min(values):.3f}-{max(values):.3f}", *(f"{part:.3f}" for part in parts)]


def _counts(diarizer: Grids) -> str:
    if not SHARED.is_dir():
        return "The recordings of which only the number of speakers is known are not here."
    rows = [
        [name, right, _each(map(speakers, diarizer.turns(decoded(SHARED / name))))] for name, right in COUNTED.items()
    ]
    return results.table(["recording", "speakers", "found, by grid"], rows)


def _each(counts: Iterable[int]) -> str:
    return " ".join(map(str, counts))


def _synthetic(diarizer: Grids, count: int) -> str:
    """By the number of speakers."""
    of = voices()
    outcomes: dict[int, list[tuple[Rates, int]]] = {}
    for seed in range(count):
        number = min(2 + seed % 4, len(of))
        samples, truth = conversation(of, seed, speakers=number)
        for turns in diarizer.turns(samples, grids=(0, diarizer.count // 2)):
            error = speakers(turns) - speakers(truth)
            outcomes.setdefault(number, []).append((der(truth, turns, len(samples) / SAMPLE_RATE), error))
    rows = []
    by_number = [(str(number), outcomes[number]) for number in sorted(outcomes)]
    for title, some in [*by_number, ("all", list(chain(*outcomes.values())))]:
        errors = [error for _, error in some]
        rates = _columns([rate for rate, _ in some])
        rows.append([title, len(some), *rates, f"{fmean(map(abs, errors)):.2f}", f"{fmean(errors):+.2f}"])
    head = ["speakers", "runs", *_RATES, "count error", "its sign"]
    return (
        f"Conversations of a minute, made of {len(of)} voices with overlap (tests/support/conversations.py):\n\n"
        + results.table(head, rows)
    )


def _words(diarizer: Grids) -> str:
    """Who said each word: our rule and others', on the same words and turns."""
    said = stm_lines(sample(".stm"))
    words: Sequence[Word] = with_audio(decoded(sample()), lambda ref: drive(Whisper(), Transcribe(ref)).words)
    rows = []
    for given in (None, 2):
        found = diarizer.turns(decoded(sample()), given)
        for name, rule in _RULES.items():
            named = [rule(words, turns) for turns in found]
            cp = results.mean([scoring.cp_wer(said, some) for some in named], 3)
            wrong = results.mean([scoring.word_speaker_error(said, some) for some in named], 3)
            rows.append([name, given or "no", cp, wrong])
    wer = scoring.word_error_rate(said, label(words, []))
    table = results.table(["rule", "count given", "cpWER", "words with a wrong speaker"], rows)
    return f"The telephone call, WER {wer:.3f}:\n\n{table}"


if __name__ == "__main__":
    main()
