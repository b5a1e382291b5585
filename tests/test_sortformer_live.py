"""NeMo's streaming Sortformer on live audio, with random weights: who is nonsense, but how it is told is not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from tests.support.following import feed, feed_together, pieces, whole, write
from tests.support.models.sortformer import sortformer
from tests.support.recordings import decoded
from tests.support.recordings import sample as sample_path
from workers.diarize.binarize import OFFLINE, STREAMING, PostProcessing, Probabilities, speech_of
from workers.diarize.sortformer.engine import Sortformer
from workers.diarize.sortformer.live import State, Talk
from workers.diarize.sortformer.network import FRAME, FRAME_SECONDS
from workers.diarize.sortformer.streaming import LIVE, Kept, LiveChunk, StreamingNetwork
from workers.diarize.turns import speaker_name
from workers.engine import JobError, WorkItem
from workers.media.samples import PCM_SCALE, Samples
from workers.messages import SAMPLE_RATE, AudioRef, Follow, Turn
from workers.messages.live import Append, LiveTurns

pytestmark = pytest.mark.models

SECONDS = 30  # the cache is full, and is chosen from, after 27 s


# Turns


def probabilities(seed: int, frames: int = 900) -> Probabilities:
    """Four speakers who come and go, now and then at the same time, some for a moment."""
    noise = np.random.default_rng(seed).normal(0, 2, (frames + 10, 4))
    smooth = np.stack([np.convolve(column, np.ones(11), "valid") for column in noise.T], axis=1)
    return (1 / (1 + np.exp(-smooth / 2))).astype(np.float32)


def told(found: Probabilities, how: PostProcessing, most: int | None = None, at_a_time: int = 6) -> list[LiveTurns]:
    talk = Talk(how, most, State(), 4)
    outputs = []
    for first in range(0, len(found), at_a_time):
        since = talk.add(found[first : first + at_a_time])
        outputs.append(LiveTurns(tuple(talk.turns), since, talk.frames * FRAME_SECONDS))
    return outputs


@pytest.mark.parametrize("how", [OFFLINE, STREAMING, PostProcessing(0.53, 0.49, 0.23, 0.01, 0.42, 0.34)])
@pytest.mark.parametrize("seed", range(3))
def test_turns_are_in_the_end_those_of_all_probabilities_at_once(how: PostProcessing, seed: int) -> None:
    found = probabilities(seed)
    spans = speech_of(found, FRAME_SECONDS, len(found) * FRAME_SECONDS + 1, how)
    spans.sort(key=lambda span: (span[0], span[2]))
    names = {output: speaker_name(number) for number, output in enumerate(dict.fromkeys(span[2] for span in spans))}
    expected = {Turn(round(start, 3), round(end, 3), names[output]) for start, end, output in spans}
    assert len(expected) > 50
    turns = whole(told(found, how))
    assert len(turns) == len(expected)
    assert set(turns) == expected


def test_no_more_speakers_than_there_may_be_and_nobody_is_renamed() -> None:
    found = probabilities(1)
    outputs = told(found, STREAMING, most=2)
    turns = whole(outputs)
    assert {turn.speaker for turn in turns} == {"SPEAKER_00", "SPEAKER_01"}
    spoken = speech_of(found, FRAME_SECONDS, len(found) * FRAME_SECONDS + 1, STREAMING)
    for start, end, _ in spoken:  # nothing that was said is left out
        assert sum(max(0.0, min(end, turn.end) - max(start, turn.start)) for turn in turns) >= 0.9 * (end - start)
    for earlier, later in pairwise(outputs):
        assert before(later.since, [earlier]) == before(later.since, [earlier, later])


def before(time: float, outputs: list[LiveTurns]) -> list[tuple[float, float, str]]:
    """Who speaks when, up to then."""
    return sorted((turn.start, min(turn.end, time), turn.speaker) for turn in whole(outputs) if turn.start < time)


# The engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Sortformer:
    return Sortformer(model=str(sortformer(tmp_path_factory.mktemp("sortformer"), streaming=True)), live=True)


@pytest.fixture(scope="module")
def call() -> Samples:
    return np.tile(decoded(sample_path()), 2)[: SECONDS * SAMPLE_RATE + 333]


@pytest.fixture
def audio(call: Samples, tmp_path: Path) -> AudioRef:
    return write(call, tmp_path / "audio.pcm")


@pytest.fixture(scope="module")
def at_once(engine: Sortformer, call: Samples, tmp_path_factory: pytest.TempPathFactory) -> list[LiveTurns]:
    audio = write(call, tmp_path_factory.mktemp("session") / "audio.pcm")
    return feed(engine, Follow(audio), [Append("live", len(call), end=True)])


def test_audio_in_pieces_gives_the_turns_of_all_at_once(
    engine: Sortformer, call: Samples, audio: AudioRef, at_once: list[LiveTurns]
) -> None:
    in_pieces = feed(engine, Follow(audio), pieces(len(call), 0.13))
    assert in_pieces == at_once
    assert len(at_once) > 60
    assert len({turn.speaker for turn in whole(at_once)}) > 1
    assert at_once[-1].until == pytest.approx(len(call) / SAMPLE_RATE)


@pytest.mark.slow
def test_probabilities_are_what_nemo_says(engine: Sortformer, call: Samples, audio: AudioRef) -> None:
    """Of the whole, in the same chunks."""
    network = engine.network
    assert isinstance(network, StreamingNetwork)
    found: list[Probabilities] = []

    def noted(batch: Sequence[LiveChunk]) -> list[tuple[Kept, Probabilities]]:
        results = StreamingNetwork.live_chunks(network, batch)
        found.extend(row for _, row in results)
        return results

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "live_chunks", noted)
        feed(engine, Follow(audio), pieces(len(call), 0.5))
    samples = torch.from_numpy((call * 32767).astype("<i2") * PCM_SCALE)
    with torch.inference_mode():
        theirs = network.live(audio_signal=samples[None], audio_signal_length=torch.tensor([len(samples)]))
    np.testing.assert_allclose(np.concatenate(found), np.asarray(theirs[0]), atol=1e-4)


@pytest.mark.slow
def test_sessions_that_share_a_step_are_told_what_each_is_told_alone(
    engine: Sortformer, call: Samples, audio: AudioRef, at_once: list[LiveTurns], tmp_path: Path
) -> None:
    other = call[11 * SAMPLE_RATE : 22 * SAMPLE_RATE + 500]
    others = write(other, tmp_path / "other.pcm")
    alone = feed(engine, Follow(others), pieces(len(other), 0.2))
    steps: list[int] = []

    def counted(items: Sequence[WorkItem]) -> Sequence[Any]:
        steps.append(len(items))
        return Sortformer.run(engine, items)

    late = Follow(audio, resume=at_once[39].state)  # it has got on while the other begins
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "run", counted)
        sessions = [(late, pieces(len(call), 0.2)), (Follow(others), pieces(len(other), 0.2))]
        first, second = feed_together(engine, sessions)
    assert steps.count(2) > 15
    np.testing.assert_allclose(last_probabilities(first), last_probabilities(at_once), atol=1e-3)
    np.testing.assert_allclose(last_probabilities(second), last_probabilities(alone), atol=1e-3)
    assert [output.until for output in second] == [output.until for output in alone]


def last_probabilities(outputs: list[LiveTurns]) -> Probabilities:
    return np.frombuffer(msgspec.msgpack.decode(outputs[-1].state, type=State).recent, np.float32)


@pytest.mark.parametrize("outputs", [33, 58])
def test_another_worker_goes_on_as_if_it_had_heard_all(
    engine: Sortformer, call: Samples, audio: AudioRef, at_once: list[LiveTurns], outputs: int
) -> None:
    heard = (outputs + 3) * LIVE["chunk_len"] * FRAME
    rest = feed(engine, Follow(audio, resume=at_once[outputs - 1].state), pieces(len(call), 0.3, heard))
    assert rest == at_once[outputs:]


def test_the_state_does_not_grow(at_once: list[LiveTurns]) -> None:
    sizes = [len(output.state) for output in at_once]
    assert max(sizes[30:]) == max(sizes)
    frames, dimensions = LIVE["spkcache_len"] + LIVE["fifo_len"], 32
    assert max(sizes) < 4 * dimensions * frames + 10_000
    assert msgspec.msgpack.decode(at_once[-1].state, type=State).frames == SECONDS * 12.5 + 1  # 0.02 s more


@pytest.mark.parametrize("length", [0, 1, 159, 160, FRAME + 1, 6 * FRAME, 13 * FRAME + 320, 13 * FRAME + 321])
def test_audio_of_any_length_is_looked_at_to_its_end(
    engine: Sortformer, call: Samples, tmp_path: Path, length: int
) -> None:
    outputs = feed(engine, Follow(write(call[:length], tmp_path / "audio.pcm")), pieces(length, 0.2))
    if length < 160:
        assert outputs == []
    else:
        assert outputs[-1].until == pytest.approx(length / SAMPLE_RATE, abs=0.01)
        assert all(turn.end <= length / SAMPLE_RATE + 0.001 for turn in whole(outputs))


@pytest.mark.slow
def test_a_flush_and_a_count_of_speakers_change_nothing_of_what_was_told(
    engine: Sortformer, call: Samples, audio: AudioRef, at_once: list[LiveTurns]
) -> None:
    end = 20 * SAMPLE_RATE
    appends = [Append("live", end // 2, flush=True), Append("live", end // 2, flush=True), Append("live", end)]
    outputs = feed(engine, Follow(audio), appends)
    assert outputs == at_once[: len(outputs)]
    assert outputs[-1].until == pytest.approx(20 - 0.8, abs=0.3)
    alone = feed(engine, Follow(audio, num_speakers=1), appends)
    assert {turn.speaker for turn in whole(alone)} == {"SPEAKER_00"}


@pytest.mark.slow
def test_one_that_takes_no_live_audio_says_what_to_do(engine: Sortformer, tmp_path: Path) -> None:
    """Without a GPU none does, unless told to."""
    on_cpu = Sortformer(model=engine.source)
    offline = Sortformer(model=str(sortformer(tmp_path)))
    for unable, advice in ((on_cpu, "live = true"), (offline, "streaming Sortformer")):
        assert unable.describe()["live"] is False
        with pytest.raises(JobError, match=advice) as raised:
            feed(unable, Follow(AudioRef("", 0, pcm=0)), [])
        assert raised.value.code == "model_unavailable"
    with pytest.raises(ValueError, match="streaming Sortformer"):
        Sortformer(model=offline.source, live=True)


def test_it_says_that_it_takes_live_audio(engine: Sortformer) -> None:
    assert engine.describe()["live"] is True
