"""Live diarization on the embedded models, fed faster than real time: turns, stable names, a bounded state."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.support.diarization_error import der, rttm_turns
from tests.support.following import feed, pieces, whole, write
from tests.support.recordings import decoded
from tests.support.recordings import sample as sample_path
from workers.diarize.embedded.clustering import LEAST_SPEECH, assign
from workers.diarize.embedded.engine import EmbeddedDiarizer
from workers.diarize.embedded.live import MOST_SPEAKERS, OLD_LEAST, Follower, name_told, turns_since
from workers.diarize.embedded.memory import Memory
from workers.diarize.embedded.names import Votes, elected, match, voted
from workers.diarize.embedded.tracks import Piece, Track, fixed
from workers.diarize.embeddings import Bounds, unit_length
from workers.messages import SAMPLE_RATE, Follow, Turn


@pytest.fixture(scope="module")
def engine() -> EmbeddedDiarizer:
    return EmbeddedDiarizer()


@pytest.mark.models
def test_turns_follow_the_audio_and_a_new_worker_goes_on_with_the_same_names(
    engine: EmbeddedDiarizer, tmp_path: Path
) -> None:
    call = decoded(sample_path())
    audio = write(call, tmp_path / "audio.pcm")
    at_once = feed(engine, Follow(audio), pieces(len(call), 0.5))
    in_pieces = feed(engine, Follow(audio), pieces(8 * SAMPLE_RATE, 0.13))[:-1]
    assert [output.turns for output in in_pieces] == [output.turns for output in at_once][: len(in_pieces)]
    assert der(rttm_turns(sample_path(".rttm"), "sample"), whole(at_once), 30.0).der <= 0.16
    for earlier, later in pairwise(at_once[:-1]):
        assert later.until - earlier.until <= 1.0
        assert later.since >= earlier.since
    assert at_once[-1].until == pytest.approx(len(call) / SAMPLE_RATE)

    half = next(index for index, output in enumerate(at_once) if output.until > 15)
    rest = feed(engine, Follow(audio, resume=at_once[half].state), pieces(len(call), 0.5, 15 * SAMPLE_RATE))
    assert {turn.speaker for turn in rest[-1].turns} <= {turn.speaker for turn in whole(at_once)}
    again = whole([*at_once[: half + 1], *rest])
    assert der(whole(at_once), again, 30.0).der <= 0.05
    names = {name: [turn for turn in whole(at_once) if turn.speaker == name] for name in ("SPEAKER_00", "SPEAKER_01")}
    for name, turns in names.items():
        own = [Turn(turn.start, turn.end, name) for turn in again if turn.speaker == name]
        shared = sum(max(0.0, min(a.end, b.end) - max(a.start, b.start)) for a in turns for b in own)
        assert shared > 0.8 * sum(turn.end - turn.start for turn in turns)


def test_clusters_keep_the_names_of_most_of_their_speech_and_no_two_share_one() -> None:
    clusters = np.array([0, 0, 1, 2, 2])
    zero, one, none = {0: 1.0}, {1: 1.0}, dict[int, float]()
    assert match(clusters, [1, 1, 1, 1, 1], [one, none, one, zero, zero], (), None) == [1, 2, 0]
    assert match(clusters, [1] * 5, [none] * 5, (), None) == [0, 1, 2]
    # A name that nobody has any more is free, one that older speech has is not.
    assert match(np.array([0, 1]), [1, 1], [one, none], (), None) == [1, 0]
    assert match(np.array([0, 1]), [1, 1], [one, none], {0, 1}, None) == [1, 2]
    assert match(np.array([0, 1]), [1, 1], [one, none], {0, 1}, 2) == [1, 0]


def test_a_name_holds_while_clusterings_disagree_and_changes_once_another_leads_clearly() -> None:
    def told(judged: Sequence[int]) -> list[int]:
        votes: Votes = {}
        name: int | None = None
        names = []
        for one in judged:
            votes = voted(votes, one)
            name = elected(votes, name)
            names.append(name)
        return names

    assert set(told([0] * 20 + [1, 1, 1, 0] * 4)) == {0}
    changed = told([0] * 20 + [1] * 30)
    assert changed[-1] == 1
    assert sum(a != b for a, b in pairwise(changed)) == 1


def test_little_speech_is_a_speaker_while_it_may_go_on_and_not_when_it_is_old() -> None:
    voices = np.eye(2, 192, dtype=np.float32)[[0, 0, 0, 0, 1]]
    tracks = [
        Track(range(index, index + 1), 600 * index, np.ones(293, dtype=np.bool_), np.ones(293, dtype=np.float32))
        for index in range(5)
    ]
    own = [Piece(index, (600 * index, 600 * index + 100), np.arange(160) + 1000 * index, 1.2) for index in range(5)]
    for least, speakers in ((LEAST_SPEECH, 2), (OLD_LEAST, 1)):
        labels, _ = assign(voices, own, tracks, Bounds(), np.full(5, least, dtype=np.float32))
        assert len(set(labels.tolist())) == speakers


def test_a_session_has_no_more_speakers_than_its_state_may_hold() -> None:
    assert Follower(None).most == Follower(100).most == MOST_SPEAKERS
    assert Follower(2).most == 2
    memory = Memory()
    for number in range(100 * MOST_SPEAKERS):
        memory.add(np.ones(192, dtype=np.float32), 1.0, number % MOST_SPEAKERS)
    assert len(memory) == 12 * MOST_SPEAKERS


def test_after_a_change_of_worker_pieces_have_the_name_of_the_turns_that_were_told() -> None:
    turns = [Turn(0.0, 2.0, "SPEAKER_01"), Turn(1.9, 4.0, "SPEAKER_00"), Turn(4.0, 5.0, "SPEAKER_01")]
    assert name_told(turns, (0, 159, 160)) == 1
    assert name_told(turns, (200, 480, 160)) == 0
    assert name_told(turns, (600, 700, 100)) is None


def test_memory_holds_the_weightiest_pieces_of_each_speaker_and_does_not_grow() -> None:
    memory, random = Memory(), np.random.default_rng(0)
    for number in range(600):
        voice = unit_length(random.normal(size=192).astype(np.float32))
        memory.add(voice, random.uniform(0.3, 0.9) if number >= 36 else 1.0, number % 3)
    assert [piece.name for piece in memory] == [0] * 12 + [1] * 12 + [2] * 12
    assert {piece.weight for piece in memory} == {1.0}
    pieces, tracks = memory.tracks(5)
    assert [piece.track for piece in pieces] == [5] * 12 + [6] * 12 + [7] * 12
    assert len(tracks) == 3


def test_pieces_stay_the_same_while_a_run_goes_on_and_while_its_beginning_is_forgotten() -> None:
    def spans(first: int, past: int) -> set[tuple[int, int]]:
        frames = np.arange(past - first)
        starts = fixed(frames, first)
        assert all(0 <= start <= max(0, len(frames) - 160) for start in starts)
        return {(first + start, first + min(start + 160, len(frames))) for start in starts}

    whole = spans(130, 1000)
    assert len(whole - spans(130, 1054)) <= 1
    assert len(spans(400, 1000) - whole) <= 1
    assert spans(0, 100) == {(0, 100)}
    covered = set().union(*(range(*span) for span in whole))
    assert len(set(range(130, 1000)) - covered) <= 60


def test_a_turn_that_goes_on_keeps_its_start() -> None:
    active = np.ones((1, 100), dtype=np.bool_)
    [turn] = turns_since(11.0, active, 10.0, 11.5, [Turn(3.0, 11.2, "SPEAKER_00")])
    assert turn == Turn(3.0, 11.5, "SPEAKER_00")
