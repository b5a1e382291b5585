"""`make accuracy`: how far the embedded models are from the references, on real recordings.

DER by pyannote.metrics, without collar, overlap counted. WER by jiwer and cpWER by meeteval on plain lower-case words.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jiwer
from meeteval.wer.wer.cp import cp_word_error_rate
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate

from diarserve.transcript.merge import label
from tests.support.drive import drive, with_audio
from tests.support.recordings import SHARED, decoded, sample
from tests.support.text import plain
from workers.diarize.embedded.engine import EmbeddedDiarizer
from workers.messages import Diarization, Diarize, Transcribe, Turn
from workers.whisper.engine import Whisper


def main() -> None:
    diarizer, whisper = EmbeddedDiarizer(), Whisper()
    print(f"{'recording':<24}{'count given':<12}{'found':>6}{'DER':>8}{'miss':>8}{'false':>8}{'confused':>9}")
    references = [(sample(), sample(".rttm"), "sample")]
    if SHARED.is_dir():
        references += [(SHARED / f"{name}.wav", SHARED / "dev.rttm", name) for name in ("dev00", "dev01")]
    for path, rttm, name in references:
        truth = rttm_turns(rttm, name)
        for given in (None, len({turn.speaker for turn in truth})):
            turns = turns_of(diarizer, path, given)
            parts = der(truth, turns, 30.0)
            print(
                f"{name:<24}{given or 'no':<12}{len({turn.speaker for turn in turns}):>6}{parts['der']:>8.3f}"
                f"{parts['missed detection']:>8.3f}{parts['false alarm']:>8.3f}{parts['confusion']:>9.3f}"
            )
    if SHARED.is_dir():
        for name in ("podcast.opus", "stereo_diarization.wav", "jfk.flac", "hotwords.mp3"):
            turns = turns_of(diarizer, SHARED / name)
            print(f"{name:<24}{'no':<12}{len({turn.speaker for turn in turns}):>6}")

    words = with_audio(decoded(sample()), lambda ref: drive(whisper, Transcribe(ref)).words)
    said = stm_lines(sample(".stm"))
    truth_text = plain(" ".join(text for _, text in sorted(said.values())))
    print(f"\nsample WER   {jiwer.wer(truth_text, plain(' '.join(word.word for word in words))):.3f}")
    for given in (None, 2):
        turns = turns_of(diarizer, sample(), given)
        print(f"sample cpWER {cp_wer(said, label(words, turns)):.3f} with {given or 'no'} speakers given")


def turns_of(diarizer: EmbeddedDiarizer, path: Path, count: int | None = None) -> Sequence[Turn]:
    found: Diarization = with_audio(decoded(path), lambda ref: drive(diarizer, Diarize(ref, count)))
    return found.turns


def der(truth: Sequence[Turn], turns: Sequence[Turn], end: float) -> dict[str, float]:
    """The rate and its parts as shares of the reference speech, scored from 0 to `end` seconds."""
    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    found = metric(annotation(truth), annotation(turns), uem=Timeline([Segment(0, end)]), detailed=True)
    parts = ("missed detection", "false alarm", "confusion")
    return {part: found[part] / found["total"] for part in parts} | {"der": found["diarization error rate"]}


def annotation(turns: Sequence[Turn]) -> Annotation:
    made = Annotation()
    for track, turn in enumerate(turns):
        made[Segment(turn.start, turn.end), track] = turn.speaker
    return made


def rttm_turns(path: Path, name: str) -> list[Turn]:
    fields = [line.split() for line in path.read_text().splitlines() if line]
    return [Turn(float(f[3]), float(f[3]) + float(f[4]), f[7]) for f in fields if f[1] == name]


def stm_lines(path: Path) -> dict[str, tuple[float, str]]:
    """By speaker and start, so that two lines never collide: the start, and what was said."""
    fields = [line.split(maxsplit=5) for line in path.read_text().splitlines() if line]
    return {f"{f[2]} {f[3]}": (float(f[3]), f[5]) for f in fields}


def cp_wer(said: dict[str, tuple[float, str]], words: Sequence[Any]) -> float:
    reference: dict[str, str] = {}
    for key, (_, text) in sorted(said.items(), key=lambda item: item[1][0]):
        speaker = key.split()[0]
        reference[speaker] = reference.get(speaker, "") + " " + plain(text)
    hypothesis: dict[str, str] = {}
    for word in words:
        hypothesis[word.speaker] = hypothesis.get(word.speaker, "") + " " + plain(word.word)
    rate: float = cp_word_error_rate(reference, hypothesis).error_rate
    return rate


if __name__ == "__main__":
    main()
