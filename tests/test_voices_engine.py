"""Speakers' embeddings with the real encoder: of any diarizer's turns, and of references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diarserve.voices.matching import THRESHOLD, similarity, vector
from tests.support.diarization_error import rttm_turns
from tests.support.drive import drive
from tests.support.recordings import decoded
from tests.support.recordings import sample as sample_path
from workers.diarize.embedded.engine import EmbeddedDiarizer
from workers.diarize.embedded.voices import solo
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, AudioRef, Embed, Embeddings, Turn

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def engine() -> EmbeddedDiarizer:
    return EmbeddedDiarizer()


@pytest.fixture(scope="module")
def call() -> Samples:
    return decoded(sample_path())


def embedded(engine: EmbeddedDiarizer, folder: Path, samples: Samples, turns: tuple[Turn, ...] | None) -> Embeddings:
    samples.tofile(folder / "audio.f32")
    answer = drive(engine, Embed(AudioRef(str(folder / "audio.f32"), len(samples)), turns))
    assert isinstance(answer, Embeddings)
    return answer


def true_turns() -> tuple[Turn, ...]:
    return tuple(rttm_turns(sample_path(".rttm"), "sample"))


def test_a_voice_is_like_itself_and_unlike_another(engine: EmbeddedDiarizer, call: Samples, tmp_path: Path) -> None:
    turns = true_turns()
    early, late = (tuple(t for t in turns if (t.end < 18) == first) for first in (True, False))
    one = {v.speaker: vector(v.embedding) for v in embedded(engine, tmp_path, call, early).voices}
    two = {v.speaker: vector(v.embedding) for v in embedded(engine, tmp_path, call, late).voices}
    assert one.keys() == two.keys() == {"speaker90", "speaker91"}
    for speaker in one:
        [other] = one.keys() - {speaker}
        assert similarity(one[speaker], two[speaker]) > THRESHOLD > similarity(one[speaker], two[other])
        assert len(one[speaker]) == 192


def test_a_reference_says_how_many_speak_and_how_much_is_clipped(
    engine: EmbeddedDiarizer, call: Samples, tmp_path: Path
) -> None:
    [first] = [turn for turn in true_turns() if turn.end - turn.start > 5][:1]
    alone = call[round(first.start * SAMPLE_RATE) : round((first.start + 5) * SAMPLE_RATE)]
    reference = embedded(engine, tmp_path, alone, None)
    assert len(reference.voices) == 1
    assert 3 < reference.voices[0].seconds <= 5
    assert reference.clipping == 0
    loud = embedded(engine, tmp_path, np.clip(alone * 100, -1, 1).astype(np.float32), None)
    assert loud.clipping > 0.1
    assert len(embedded(engine, tmp_path, call, None).voices) == 2
    assert embedded(engine, tmp_path, np.zeros(3 * SAMPLE_RATE, np.float32), None).voices == ()


def test_only_speech_that_nobody_else_disturbs_counts() -> None:
    turns = [Turn(0, 5, "a"), Turn(2, 3, "b"), Turn(4, 6, "b"), Turn(4.5, 5.5, "c")]
    assert solo(turns) == {"a": [(0, 2), (3, 4)], "b": [(5.5, 6)], "c": []}
