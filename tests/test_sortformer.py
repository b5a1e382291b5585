"""NeMo's Sortformer behind the worker's contract, with random weights: what it says is nonsense, how it is said is not.

What becomes of a trained network's probabilities is tested with made-up ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.diarizing import Diarizer, speakers
from tests.support.models.sortformer import sortformer
from tests.support.recordings import decoded
from tests.support.recordings import sample as sample_path
from workers.diarize.binarize import OFFLINE, STREAMING, PostProcessing, Probabilities, spans_of, speech_of
from workers.diarize.sortformer import windows
from workers.diarize.sortformer.engine import Sortformer
from workers.diarize.sortformer.network import FRAME, Window
from workers.engine import JobError, WorkItem
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, AudioRef, Diarization, Diarize

pytestmark = pytest.mark.models


def speech(*frames: tuple[int, int, int], length: int = 1000) -> Probabilities:
    """Probabilities of four speakers, of (speaker, first, past)."""
    made = np.full((length, 4), 0.02, dtype=np.float32)
    for speaker, first, past in frames:
        made[first:past, speaker] = 0.97
    return made


# Post-processing


def test_thresholds_padding_and_short_spans() -> None:
    how = PostProcessing(0.6, 0.4, pad_onset=0.05, pad_offset=0.1, min_duration_on=0.3, min_duration_off=0.4)
    probability = np.zeros(100, dtype=np.float32)
    probability[10:20] = 0.5  # never passes the onset
    probability[30:40] = 0.7
    probability[40:45] = 0.5  # still above the offset
    probability[49:60] = 0.7  # after a pause that padding makes short
    probability[80:81] = 0.9  # too short
    assert np.allclose(spans_of(probability, 0.08, 8.0, how), [(30 * 0.08 - 0.05, 60 * 0.08 + 0.1)])


def test_spans_stay_within_the_recording() -> None:
    how = PostProcessing(pad_onset=1.0, pad_offset=1.0)
    assert spans_of(np.ones(10, dtype=np.float32), 0.08, 0.77, how) == [(0.0, 0.77)]


@pytest.mark.parametrize("how", [OFFLINE, STREAMING, PostProcessing(0.53, 0.49, 0.23, 0.01, 0.42, 0.34)])
def test_spans_are_those_of_nemo(how: PostProcessing) -> None:
    from nemo.collections.asr.parts.utils.vad_utils import ts_vad_post_processing
    from omegaconf import OmegaConf

    noise = np.random.default_rng(1).normal(0, 2, 610)
    probability = (1 / (1 + np.exp(-np.convolve(noise, np.ones(11), "valid") / 2))).astype(np.float32)
    probability[-1] = 0
    parameters = OmegaConf.create({name: getattr(how, name) for name in PostProcessing.__dataclass_fields__})
    theirs = ts_vad_post_processing(torch.from_numpy(probability), parameters, unit_10ms_frame_count=8).numpy()
    theirs = theirs[theirs[:, 0].argsort()]
    ours = np.array(spans_of(probability, 0.08, 48.0, how))
    assert len(ours) > 10
    # NeMo looks every 10 ms, and an offset above the onset costs it up to one such look.
    np.testing.assert_allclose(ours, theirs, atol=0.0101)


def test_silence_is_nobodys() -> None:
    assert speech_of(speech(), 0.08, 80.0, OFFLINE) == []


def test_overlapping_speech_is_kept() -> None:
    found = speech_of(speech((0, 100, 200), (1, 150, 250)), 0.08, 80.0, PostProcessing())
    assert found == [(8.0, 16.0, 0), (12.0, 20.0, 1)]


def test_those_who_speak_longest_stay_and_take_over_the_rest() -> None:
    made = speech((0, 100, 400), (1, 500, 520), (2, 600, 900))
    made[500:520, 2] = 0.3  # whom the model holds for the next best
    found = speech_of(made, 0.08, 80.0, PostProcessing(), most=2)
    assert sorted(found) == [(8.0, 32.0, 0), (40.0, pytest.approx(41.6), 2), (48.0, 72.0, 2)]
    assert len({speaker for *_, speaker in speech_of(made, 0.08, 80.0, PostProcessing(), most=3)}) == 3


# Windows


def heard(truth: Probabilities, window: int, memory: int, rng: np.random.Generator) -> Probabilities:
    """A recording as it is put together from the windows of a network that numbers its speakers anew each time, in no
    order at all."""
    past = np.zeros((0, 4), dtype=np.float32)
    while len(past) < len(truth):
        again = windows.recall(past, memory, 40)
        new = np.arange(len(past), min(len(truth), len(past) + window - len(again)))
        answer = truth[np.concatenate([again, new])][:, rng.permutation(4)]
        past = windows.join(past, again, answer, 40)
    return past


@pytest.mark.parametrize("seed", range(5))
def test_speakers_are_followed_from_window_to_window(seed: int) -> None:
    """Each speaks now and then, and the fourth at the very beginning and the very end."""
    truth = speech(
        (3, 5, 45), (0, 60, 700), (1, 690, 1500), (2, 1500, 1550), (0, 1600, 2600), (2, 2600, 2900), (3, 2950, 2990),
        length=3000,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    found = heard(truth, 400, 150, rng)
    match = windows.order(truth, found)
    assert sorted(match) == [0, 1, 2, 3]
    np.testing.assert_array_equal(found[:, match], truth)


def test_a_recording_has_no_more_speakers_than_the_network() -> None:
    """However many voices come."""
    rng = np.random.default_rng(0)
    changing = np.concatenate([speech((voice % 4, 10, 390), length=400) for voice in range(9)])
    assert heard(changing, 300, 120, rng).shape == (3600, 4)


def test_what_is_remembered_is_bounded_and_in_order() -> None:
    past = speech((0, 0, 400), (1, 400, 430), (2, 420, 700), length=1000)
    frames = windows.recall(past, 150, 40)
    assert len(frames) <= 150
    assert (np.diff(frames) > 0).all()
    assert frames[-40:].tolist() == list(range(960, 1000))
    remembered = past[frames] > 0.5
    assert remembered.any(axis=0).tolist() == [True, True, True, False]
    assert not (remembered.sum(axis=1) > 1).any()
    assert windows.recall(past[:0], 150, 40).tolist() == []
    assert windows.recall(past[:30], 150, 40).tolist() == list(range(30))


# The engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sortformer")


@pytest.fixture(scope="module")
def offline_file(folder: Path) -> Path:
    return sortformer(folder)


@pytest.fixture(scope="module")
def offline(offline_file: Path) -> Sortformer:
    return Sortformer(model=str(offline_file), batch=4)


@pytest.fixture(scope="module")
def streaming(folder: Path) -> Sortformer:
    return Sortformer(model=str(sortformer(folder, streaming=True)))


@pytest.fixture(scope="module", params=["offline", "streaming"])
def engine(request: pytest.FixtureRequest) -> Sortformer:
    made: Sortformer = request.getfixturevalue(request.param)
    return made


@pytest.fixture(scope="module")
def call() -> Samples:
    return decoded(sample_path())


def diarize(engine: Sortformer, samples: Samples, folder: Path, **hints: int) -> Diarization:
    return Diarizer(engine, folder)(samples, **hints)


def test_turns_of_half_a_minute_and_of_two(engine: Sortformer, call: Samples, tmp_path: Path) -> None:
    short = diarize(engine, call, tmp_path)
    long = diarize(engine, np.tile(call, 4), tmp_path)
    assert short.turns
    assert long.turns[-1].end > 100
    assert 1 <= speakers(short) <= 4
    assert 1 <= speakers(long) <= 4
    assert short.warnings == long.warnings == ()
    assert diarize(engine, call, tmp_path) == short


def test_a_count_is_kept(engine: Sortformer, call: Samples, tmp_path: Path) -> None:
    assert speakers(diarize(engine, call, tmp_path, num_speakers=1)) == 1
    assert speakers(diarize(engine, call, tmp_path, max_speakers=2)) <= 2


def test_more_speakers_than_it_can_tell_apart(engine: Sortformer, call: Samples, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="clustering") as raised:
        diarize(engine, call, tmp_path, num_speakers=5)
    assert raised.value.code == "too_many_speakers"


@pytest.mark.parametrize("length", [0, 1, FRAME - 1])
def test_nothing_to_hear(engine: Sortformer, call: Samples, tmp_path: Path, length: int) -> None:
    assert diarize(engine, call[:length], tmp_path).turns == ()
    silent = diarize(engine, np.zeros(SAMPLE_RATE, dtype=np.float32), tmp_path, num_speakers=2)
    assert silent.turns == ()
    assert "2 speakers" in silent.warnings[0]


@pytest.mark.parametrize("length", [FRAME, FRAME + 1, 17_777])
def test_odd_lengths(engine: Sortformer, call: Samples, tmp_path: Path, length: int) -> None:
    diarize(engine, call[-length:], tmp_path)


def test_windows_do_not_mind_their_neighbours(offline: Sortformer, call: Samples) -> None:
    """A batch gives what its windows give alone, be they padded or not."""
    batch = [
        WorkItem("window", Window(call, np.arange(first, past), 2.0))
        for first, past in [(0, 375), (100, 300), (50, 351)]
    ]
    for item, together in zip(batch, offline.run(batch), strict=True):
        [alone] = offline.run([item])
        assert alone.std(axis=0).min() > 0.05
        np.testing.assert_allclose(together, alone, atol=1e-3)


def test_one_window_is_what_nemo_says(offline: Sortformer, call: Samples) -> None:
    gain = 1 / (float(call.max()) + offline.network.model.eps)
    [ours] = offline.run([WorkItem("window", Window(call, np.arange(375), gain))])
    np.testing.assert_allclose(ours, nemos(offline, call), atol=1e-4)


def test_chunks_are_what_nemo_says(streaming: Sortformer, call: Samples, tmp_path: Path) -> None:
    """Though the spectrogram is made chunk by chunk."""
    samples = np.tile(call, 3)[: 80 * SAMPLE_RATE + 333]
    samples.tofile(tmp_path / "audio.f32")
    found = [outputs[0][1] for _, outputs in steps(streaming, AudioRef(str(tmp_path / "audio.f32"), len(samples)))]
    assert len(found) == 3
    np.testing.assert_allclose(np.concatenate(found), nemos(streaming, samples), atol=1e-4)


def nemos(engine: Sortformer, samples: Samples) -> Probabilities:
    with torch.inference_mode():
        found = engine.network.model(
            audio_signal=torch.from_numpy(samples)[None], audio_signal_length=torch.tensor([len(samples)])
        )
    return np.asarray(found[0])


def steps(engine: Sortformer, ref: AudioRef) -> Iterator[tuple[list[WorkItem], list[Any]]]:
    """Every phase of a job with its outputs, one item a step."""
    job = engine.job(Diarize(ref))
    try:
        phase = next(job)
        while True:
            outputs = [output for item in phase for output in engine.run([item])]
            yield phase, outputs
            phase = job.send(outputs)
    except StopIteration:
        return


def test_progress_of_a_long_recording(engine: Sortformer, call: Samples, tmp_path: Path) -> None:
    """Bounded steps, one after another."""
    np.tile(call, 7).tofile(tmp_path / "audio.f32")
    phases = [phase for phase, _ in steps(engine, AudioRef(str(tmp_path / "audio.f32"), 7 * len(call)))]
    assert 4 <= len(phases) <= 12
    spans = [item.span or (0.0, 0.0) for [item] in phases]
    assert spans[0][0] == 0.0
    assert spans[-1][1] == 1.0
    assert all(one[1] == other[0] for one, other in pairwise(spans))


def test_bfloat16_says_about_the_same(
    engine: Sortformer, call: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where it is the default."""
    call.tofile(tmp_path / "audio.f32")
    ref = AudioRef(str(tmp_path / "audio.f32"), len(call))
    exact = [outputs for _, outputs in steps(engine, ref)]
    monkeypatch.setattr(engine.network, "bf16", True)
    for one, other in zip(exact, [outputs for _, outputs in steps(engine, ref)], strict=True):
        precise, rough = (output[1] if engine.network.streaming else output for [output] in (one, other))
        assert ((precise > 0.5) == (rough > 0.5)).mean() > 0.8  # these weights exaggerate what little they hear


def test_what_does_not_fit_a_gpu_is_done_on_the_cpu(
    offline: Sortformer, call: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = WorkItem("window", Window(call, np.arange(375), 2.0))
    [expected] = offline.run([item])
    monkeypatch.setattr(offline.network, "device", torch.device("cuda"))
    outputs = offline.fallback([item])
    assert outputs is not None
    np.testing.assert_allclose(outputs[0], expected, atol=1e-5)


def test_it_says_what_it_is(engine: Sortformer) -> None:
    about = engine.describe()
    assert "/" not in about["model"]
    assert "sortformer" in about["model"]
    assert about["device"] == "cpu"
    assert about["max_speakers"] == 4
    assert about["max_seconds"] > 0
    assert engine.fallback([]) is None


def test_a_model_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RuntimeError, match=r"\.nemo file"):
        Sortformer(model="/nowhere/diar.nemo")
