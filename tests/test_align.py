"""Forced alignment: words that are known get the times at which they are said."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from tests.support.drive import drive
from tests.support.models.wav2vec2 import VOCABULARY, wav2vec2
from workers.align.ctc import MAX_SECONDS, PAUSE, WILDCARD, Alphabet, alphabet_of, find_words, segments, timed
from workers.align.engine import Acoustic, Aligner
from workers.media.samples import Samples
from workers.messages import CROSS_ATTENTION, SAMPLE_RATE, Align, Alignment, AudioRef, Word

pytestmark = pytest.mark.models

FRAME = 320
DICTIONARY = {letter.lower(): code for code, letter in enumerate(VOCABULARY)}
Run = Callable[..., Alignment]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wav2vec2(tmp_path_factory.mktemp("models") / "tiny-wav2vec2")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Aligner:
    return Aligner(model=str(folder), batch=4)


@pytest.fixture
def align(engine: Aligner, tmp_path: Path) -> Run:
    numbers = count()

    def run(samples: Samples, words: Sequence[Word], language: str = "en", engine: Aligner = engine) -> Alignment:
        path = tmp_path / f"{next(numbers)}.f32"
        samples.astype(np.float32).tofile(path)
        result = drive(engine, Align(AudioRef(str(path), samples.size), tuple(words), language))
        assert isinstance(result, Alignment)
        check(result.words, words, samples.size / SAMPLE_RATE)
        return result

    return run


def check(words: Sequence[Word], given: Sequence[Word], duration: float) -> None:
    assert [(word.word, word.probability) for word in words] == [(word.word, word.probability) for word in given]
    assert all(0 <= word.start <= word.end <= duration for word in words)
    assert [word.start for word in words] == sorted(word.start for word in words)


def spread(text: str, start: float = 0.0, each: float = 0.5, pause: float = 0.0) -> list[Word]:
    return [
        Word(" " + word, round(start + place * (each + pause), 3), round(start + place * (each + pause) + each, 3), 0.5)
        for place, word in enumerate(text.split())
    ]


def hiss(seconds: float) -> Samples:
    return np.random.default_rng(5).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)


# What is said, in tones: letter k of the alphabet is a tone of its own, 40 ms long.


def tone(code: int, size: int) -> Samples:
    return np.sin(2 * np.pi * 50 * (8 + 4 * code) * np.arange(size) / SAMPLE_RATE).astype(np.float32)


class Ear(nn.Module):
    """A CTC model that hears these tones, in frames of 20 ms like the real ones."""

    def forward(self, windows: Tensor) -> tuple[Tensor, None]:
        frames = windows[:, : windows.shape[1] // FRAME * FRAME].reshape(len(windows), -1, FRAME)
        power = torch.fft.rfft(frames).abs().square()
        heard = power[..., 8 : 8 + 4 * len(VOCABULARY) : 4]
        logits = 10 * heard / power.sum(dim=-1, keepdim=True).clamp(min=100)
        logits[..., 0] = 3.0
        return logits, None


@pytest.fixture
def hearing(engine: Aligner, monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Acoustic("ear", Ear(), alphabet_of(DICTIONARY), FRAME)
    monkeypatch.setattr(engine, "_loaded", {("en", "cpu"): ear})


def say(words: Sequence[Word], seconds: float, spoken: Callable[[str], str] = str.strip) -> Samples:
    """Every word at its start, and its end is where its last tone ends."""
    samples: Samples = hiss(seconds) / np.float32(1000)
    for word in words:
        first = round(word.start * SAMPLE_RATE)
        for letter in spoken(word.word):
            samples[first : first + 2 * FRAME] += tone(DICTIONARY[letter], 2 * FRAME)
            first += 2 * FRAME
        samples[first : first + FRAME] += tone(DICTIONARY["|"], FRAME)
    return samples


def moved(words: Sequence[Word], most: float) -> list[Word]:
    noise = random.Random(2)
    shifts = [noise.uniform(-most, most) for _ in words]
    return [
        replace(word, start=max(0.0, word.start + by), end=word.end + by)
        for word, by in zip(words, shifts, strict=True)
    ]


@pytest.mark.usefixtures("hearing")
def test_words_get_the_times_at_which_they_are_said(align: Run) -> None:
    """Of three minutes, with pauses short and long, and rough times that are off by up to 0.2 s."""
    words = spread("the quick brown fox jumps over a lazy dog " * 20, 1.0, 0.6, 0.1)
    words += spread("and after a long pause some more words are said in one go", 150.0, 0.6)
    found = align(say(words, 180.0), moved(words, 0.2))
    assert found.model == "ear"
    assert found.warnings == ()
    for word, result in zip(words, found.words, strict=True):
        assert result.start == pytest.approx(word.start, abs=0.021)
        said = word.start + 0.04 * len(word.word.strip())
        assert said - 0.021 <= result.end <= said + 0.041


@pytest.mark.usefixtures("hearing")
def test_what_has_no_letters_lies_between_its_neighbours(align: Run) -> None:
    """whisperX used to lose such words: https://github.com/m-bain/whisperX/issues/1372."""
    words = spread("it cost $5.30 in 2024 😀 — or so", 1.0, 0.8)
    aloud = {"$5.30": "fivethirty", "2024": "twentyfour", "😀": "", "—": ""}
    samples = say(words, 10.0, lambda word: aloud.get(word.strip(), word.strip()))
    found = align(samples, moved(words, 0.2)).words
    times = {word.word.strip(): word for word in found}
    for said in words:
        if said.word.strip() not in aloud:
            assert times[said.word.strip()].start == pytest.approx(said.start, abs=0.021)
    assert times["cost"].end <= times["$5.30"].start < times["$5.30"].end <= times["in"].start
    assert 2.6 <= times["$5.30"].start <= times["$5.30"].end <= 3.4
    assert times["in"].end <= times["2024"].start < times["2024"].end <= times["😀"].start
    assert times["😀"].end <= times["or"].start >= times["—"].end


@pytest.mark.usefixtures("hearing")
def test_words_without_spaces_are_found_too(align: Run) -> None:
    words = [replace(word, word=word.word.strip()) for word in spread("de fg hi", 1.0)]
    samples = say(words, 4.0)
    for word, result in zip(words, align(samples, moved(words, 0.1)).words, strict=True):
        assert result.start == pytest.approx(word.start, abs=0.021)


def test_a_real_network_answers_in_order(align: Run, folder: Path) -> None:
    words = spread("and so my fellow Americans ask not what $5.30 can do", 0.5, 0.4)
    result = align(hiss(6.0), words)
    assert result.model == folder.name
    assert result.warnings == ()
    assert result.words != tuple(words)


@pytest.mark.parametrize("seconds", [0.0, 0.00625, 0.02, 0.3])
def test_short_recordings(align: Run, seconds: float) -> None:
    align(hiss(seconds), spread("hello", 0.0))
    assert align(hiss(seconds), []).words == ()


def test_words_that_end_after_the_recording(align: Run) -> None:
    align(hiss(3.0), spread("these words go on and on and on", 1.0))
    align(hiss(3.0), spread("all too late", 7.0))


def test_more_letters_than_frames(align: Run) -> None:
    words = [Word(" antidisestablishmentarianism", 1.0, 1.05, 0.1)] * 3
    assert [word.start for word in align(hiss(2.0), words).words] == [1.0, 1.021, 1.042]


def test_ten_minutes_stay_in_order(align: Run) -> None:
    noise = random.Random(1)
    words = spread("no 1 can tell what a network without training hears — but order it keeps " * 100, 0.0, 0.4)
    words = moved([word for word in words if noise.random() < 0.9], 1.0)
    words.sort(key=lambda word: word.start)
    result = align(hiss(600.0), words)
    assert len(result.words) > 1_000


def test_results_do_not_depend_on_the_batch(folder: Path, align: Run) -> None:
    words = spread("one two three four five six seven eight nine ten " * 12, 0.0, 0.5, 0.1)
    single = Aligner(model={"en": str(folder)}, batch=1)
    assert align(hiss(75.0), words).words == align(hiss(75.0), words, engine=single).words


def test_a_language_without_a_model_keeps_its_words(align: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    words = spread("ave imperator", 0.3)
    result = align(hiss(2.0), words, language="la")
    assert result.words == tuple(words)
    assert result.model == CROSS_ATTENTION
    [warning] = result.warnings
    assert "'la'" in warning


def test_a_model_that_cannot_be_had_does_not_keep_the_engine_from_its_work(tmp_path: Path, align: Run) -> None:
    engine = Aligner(model=str(tmp_path / "nowhere"))
    assert engine.describe() == {"model": CROSS_ATTENTION, "device": "cpu", "languages": []}
    words = spread("hello there", 0.3)
    result = align(hiss(2.0), words, engine=engine)
    assert (result.words, result.model) == (tuple(words), CROSS_ATTENTION)
    assert len(result.warnings) == 1


def test_as_many_models_are_kept_as_asked_for(folder: Path, align: Run) -> None:
    engine = Aligner(model=dict.fromkeys(("en", "de", "fr"), str(folder)), keep=2)
    assert engine.describe() == {"model": folder.name, "device": "cpu", "languages": ["en"]}
    assert list(engine.maintain(0.0)) == []
    for language in ("de", "en", "fr", "fr"):
        align(hiss(1.0), spread("oui", 0.2), language=language, engine=engine)
    assert engine.describe()["languages"] == ["en", "fr"]
    assert sorted(engine.maintain(0.0)) == ["load", "load", "unload"]
    assert list(engine.maintain(0.0)) == []


def test_segments_are_cut_where_nobody_speaks() -> None:
    words = spread("word " * 200, 3.0, 0.3, 0.02)
    words += spread("word " * 30, words[-1].end + 5, 0.3, 0.02)
    words = [replace(word, end=word.end - 0.2 * (place % 23 == 22)) for place, word in enumerate(words)]
    found = segments(words, 1_000.0)
    assert [part.first for part in found[1:]] == [part.past for part in found[:-1]]
    assert (found[0].first, found[-1].past) == (0, len(words))
    assert 200 in [part.first for part in found]
    for part in found:
        assert words[part.past - 1].end - words[part.first].start <= MAX_SECONDS
        assert part.start < words[part.first].start
        assert words[part.past - 1].end < part.end
    cuts = [one.past for one, other in pairwise(found) if words[other.first].start - words[one.past - 1].end < PAUSE]
    assert cuts
    assert all(cut % 23 == 0 for cut in cuts)


def test_an_hour_for_one_word_is_not_searched() -> None:
    [part] = segments([Word(" what", 10.0, 3_600.0, 0.1)], 4_000.0)
    assert part.end - part.start < MAX_SECONDS + 2


@pytest.mark.parametrize(
    ("word", "spelled"),
    [
        (" Don’t,", "don't"),
        (" café", "cafe"),
        (" $5.30!", "****"),
        (" C|A", "c*a"),
        (" …", ""),
        (" 😀", ""),
        (" 你好", "**"),
        (" well-known", "wellknown"),
    ],
)
def test_spelling(word: str, spelled: str) -> None:
    alphabet = alphabet_of(DICTIONARY)
    assert alphabet.spell(word) == [WILDCARD if letter == "*" else DICTIONARY[letter] for letter in spelled]


def test_a_hyphen_is_no_blank() -> None:
    """torchaudio's bundles write the blank so."""
    alphabet = alphabet_of({"-": 0, "|": 1, "a": 2, "b": 3})
    assert alphabet == Alphabet({"a": 2, "b": 3}, 0, 1)
    assert alphabet.spell("a-b") == [2, 3]


def test_frames_of_emissions_made_by_hand() -> None:
    alphabet = alphabet_of(DICTIONARY)
    emission = torch.full((60, len(VOCABULARY)), -8.0)
    emission[:, 0] = -0.1
    for letters, first in (("in", 5), ("|", 10), ("x", 14), ("y", 20), ("z", 24), ("|", 30), ("we", 40)):
        for offset, letter in enumerate(letters):
            emission[first + offset, 0] = -8.0
            emission[first + offset, DICTIONARY[letter]] = -0.1
    found = find_words(emission, [" in", " 365", " ?", " we"], alphabet)
    assert found == [(5, 10), (14, 30), None, (40, 51)]
    words = [Word(word, 0.5, 0.6, 1.0) for word in ("in", "365", "?", "we")]
    times: list[Any] = [(first * 0.02, past * 0.02) for first, past in filter(None, found)]
    result = timed(words, [*times[:2], None, times[2]], 1.2)
    assert [(word.start, word.end) for word in result] == [(0.1, 0.2), (0.28, 0.6), (0.6, 0.6), (0.8, 1.02)]
