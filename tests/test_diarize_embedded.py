"""The embedded diarizer with its real weights: who speaks when, and what is no speech at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.diarization_error import der, rttm_turns
from tests.support.diarizing import Diarizer, speakers
from tests.support.recordings import decoded
from tests.support.recordings import sample as sample_path
from workers.diarize.embedded.engine import EmbeddedDiarizer
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, Turn

pytestmark = pytest.mark.models

NOISE = np.random.default_rng(7).normal(0, 1, 10 * SAMPLE_RATE).astype(np.float32)


@pytest.fixture(scope="module")
def engine() -> EmbeddedDiarizer:
    return EmbeddedDiarizer()


@pytest.fixture(scope="module")
def call() -> Samples:
    return decoded(sample_path())


@pytest.fixture
def diarize(engine: EmbeddedDiarizer, tmp_path: Path) -> Diarizer:
    return Diarizer(engine, tmp_path)


def error(turns: tuple[Turn, ...]) -> float:
    return der(rttm_turns(sample_path(".rttm"), "sample"), turns, 30).der


@pytest.mark.parametrize("hints", [{}, {"num_speakers": 2}, {"min_speakers": 2, "max_speakers": 4}])
def test_a_telephone_call_of_two(diarize: Diarizer, call: Samples, hints: dict[str, int]) -> None:
    result = diarize(call, **hints)
    assert speakers(result) == 2
    assert error(result.turns) <= 0.10
    assert result.model == "embedded"
    assert result.warnings == ()


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_given_count_is_kept(diarize: Diarizer, call: Samples, count: int) -> None:
    result = diarize(call, num_speakers=count)
    assert speakers(result) == count
    assert result.warnings == ()


def test_bounds_are_kept(diarize: Diarizer, call: Samples) -> None:
    assert speakers(diarize(call, max_speakers=1)) == 1
    assert speakers(diarize(call, min_speakers=4)) >= 4


def test_whoever_has_a_turn_is_most_active_in_it(diarize: Diarizer, call: Samples) -> None:
    result = diarize(call)
    activity = result.activity
    assert activity
    levels = np.frombuffer(activity.levels, dtype=np.uint8).reshape(len(activity.speakers), -1)
    for number, name in enumerate(activity.speakers):
        own = [turn for turn in result.turns if turn.speaker == name]
        spans = [[round((time - activity.start) / activity.step) for time in (turn.start, turn.end)] for turn in own]
        theirs = np.concatenate([levels[:, first:past] for first, past in spans], axis=1)
        assert (theirs.argmax(axis=0) == number).mean() > 0.8
        assert theirs[number].mean() > 0.6 * 255


def test_a_count_beyond_the_speech_is_admitted(diarize: Diarizer, call: Samples) -> None:
    result = diarize(call[22 * SAMPLE_RATE : 23 * SAMPLE_RATE], num_speakers=4)
    assert 1 <= speakers(result) < 4
    assert "4 speakers" in result.warnings[0]


@pytest.mark.parametrize("gain", [0.003, 3.0])
def test_loudness_does_not_matter(diarize: Diarizer, call: Samples, gain: float) -> None:
    assert error(diarize(call * gain).turns) <= 0.10


@pytest.mark.parametrize("seconds", [1.0, 3.0, 5.0])
def test_one_short_speaker(diarize: Diarizer, call: Samples, seconds: float) -> None:
    start = 22 * SAMPLE_RATE
    result = diarize(call[start : start + int(seconds * SAMPLE_RATE)])
    assert speakers(result) == 1
    assert sum(turn.end - turn.start for turn in result.turns) > 0.7 * seconds


@pytest.mark.parametrize(
    "samples",
    [
        NOISE[:0],
        NOISE[:1],
        0.1 * NOISE[: SAMPLE_RATE // 5],
        np.zeros(7 * SAMPLE_RATE, dtype=np.float32),
        1e-4 * NOISE,
        0.1 * NOISE,
    ],
    ids=["empty", "one sample", "0.2 s", "zeros", "faint noise", "noise"],
)
def test_no_speech_no_turns(diarize: Diarizer, samples: Samples) -> None:
    assert diarize(samples).turns == ()
    assert diarize(samples, num_speakers=2).warnings != ()


def test_what_surrounds_speech_does_not_change_it(diarize: Diarizer, call: Samples) -> None:
    silence = np.zeros(20 * SAMPLE_RATE, dtype=np.float32)
    turns = diarize(np.concatenate([silence, call, silence])).turns
    moved = tuple(Turn(turn.start - 20, turn.end - 20, turn.speaker) for turn in turns)
    assert error(moved) <= 0.15


def test_two_jobs_give_what_each_gives_alone(diarize: Diarizer, call: Samples) -> None:
    """Results must not depend on what else a worker did before."""
    first = diarize(call)
    diarize(call[: 11 * SAMPLE_RATE])
    assert diarize(call) == first


def test_an_engine_says_what_it_is(engine: EmbeddedDiarizer) -> None:
    assert engine.describe()["model"] == "embedded"
    assert engine.describe()["device"] == "cpu"


def test_high_accuracy_follows_speakers_by_a_second_network(call: Samples, tmp_path: Path) -> None:
    result = Diarizer(EmbeddedDiarizer(accuracy="high"), tmp_path)(call)
    assert speakers(result) == 2
    assert error(result.turns) <= 0.08
