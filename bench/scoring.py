"""How far a transcript is from a reference: WER by jiwer, cpWER by meeteval, and the share of words with another
speaker's name. Words are compared plain and in lower case."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import jiwer
import numpy as np
from meeteval.wer.wer.cp import cp_word_error_rate
from scipy.optimize import linear_sum_assignment

from tests.support.text import plain

logging.getLogger("preprocess").setLevel(logging.ERROR)  # meeteval's, which says of every text that it has no times

Said = Mapping[str, tuple[float, str]]  # by speaker and start: the start in seconds, and what was said


class Spoken(Protocol):
    """A word with its speaker."""

    @property
    def word(self) -> str: ...

    @property
    def speaker(self) -> str: ...


def word_error_rate(said: Said, words: Sequence[Spoken]) -> float:
    text = " ".join(line for _, line in sorted(said.values()))
    rate: float = jiwer.wer(plain(text), plain(" ".join(word.word for word in words)))
    return rate


def cp_wer(said: Said, words: Sequence[Spoken]) -> float:
    """Concatenated minimum-permutation WER (https://arxiv.org/abs/2004.09249): an error where word or speaker is."""
    reference: dict[str, str] = {}
    for key, (_, text) in sorted(said.items(), key=lambda item: item[1][0]):
        speaker = key.split()[0]
        reference[speaker] = reference.get(speaker, "") + " " + plain(text)
    hypothesis: dict[str, str] = {}
    for word in words:
        hypothesis[word.speaker] = hypothesis.get(word.speaker, "") + " " + plain(word.word)
    rate: float = cp_word_error_rate(reference, hypothesis).error_rate
    return rate


def word_speaker_error(said: Said, words: Sequence[Spoken]) -> float:
    """Of the words that were heard (rightly or as others), the share whose speaker is wrong, under the naming of
    speakers that is best."""
    truth = [(word, key.split()[0]) for key, (_, text) in _by_start(said) for word in plain(text).split()]
    heard = [(part, word.speaker) for word in words for part in plain(word.word).split()]
    aligned = jiwer.process_words(" ".join(word for word, _ in truth), " ".join(word for word, _ in heard))
    pairs = Counter[tuple[str, str]]()
    for chunk in aligned.alignments[0]:
        if chunk.type in ("equal", "substitute"):
            theirs = truth[chunk.ref_start_idx : chunk.ref_end_idx]
            ours = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
            pairs.update((one, two) for (_, one), (_, two) in zip(theirs, ours, strict=True))
    rows, columns = sorted({one for one, _ in pairs}), sorted({two for _, two in pairs})
    agreement = np.array([[pairs[one, two] for two in columns] for one in rows])
    right = agreement[linear_sum_assignment(agreement, maximize=True)].sum()
    return float(1 - right / pairs.total())


def _by_start(said: Said) -> list[tuple[str, tuple[float, str]]]:
    return sorted(said.items(), key=lambda item: item[1][0])


def stm_lines(path: Path) -> dict[str, tuple[float, str]]:
    """By speaker and start, so that two lines never collide: the start, and what was said."""
    fields = [line.split(maxsplit=5) for line in path.read_text().splitlines() if line]
    return {f"{f[2]} {f[3]}": (float(f[3]), f[5]) for f in fields}
