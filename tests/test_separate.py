"""Voices freed of noise by RNNoise (real weights) and of music by Demucs (the real network with random weights)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from tests.support.drive import drive
from tests.support.models.htdemucs import htdemucs
from tests.support.recordings import decoded
from tests.support.recordings import sample as sample_path
from workers.engine import Engine, JobError, JobSteps, WorkItem, outputs_of
from workers.media.samples import Samples, load
from workers.messages import SAMPLE_RATE, AudioRef, Separate, Separation
from workers.separate.demucs import TICK, Blend, Demucs, Voices, window_starts
from workers.separate.rnnoise import Denoiser, RNNoise

pytestmark = pytest.mark.models

SECOND = SAMPLE_RATE


@pytest.fixture(scope="module")
def rnnoise() -> RNNoise:
    return RNNoise(original=0.0, clean=inf)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return htdemucs(tmp_path_factory.mktemp("htdemucs"))


@pytest.fixture(scope="module")
def demucs(checkpoint: Path) -> Demucs:
    return Demucs(model=str(checkpoint), batch=3)


@pytest.fixture(scope="module")
def call() -> Samples:
    return decoded(sample_path())


def hiss(size: int, level: float) -> Samples:
    return np.random.default_rng(3).normal(0, level, size).astype(np.float32)


def request_for(samples: Samples, folder: Path) -> Separate:
    samples.astype(np.float32).tofile(folder / "audio.f32")
    return Separate(AudioRef(str(folder / "audio.f32"), samples.size), str(folder / "voices.f32"))


def separate(engine: Engine, samples: Samples, folder: Path) -> Samples:
    request = request_for(samples, folder)
    result = drive(engine, request)
    assert isinstance(result, Separation)
    assert result.audio == AudioRef(request.target, samples.size)
    assert result.model == engine.describe()["model"]
    assert Path(request.target).stat().st_size == 4 * samples.size
    voices = np.array(load(result.audio))
    assert np.isfinite(voices).all()
    return voices


def decibels(part: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(part, dtype=np.float64)) + 1e-20))


def snr(clean: Samples, noisy: Samples) -> float:
    """The scale of what is compared does not matter."""
    scaled = clean * (np.dot(clean, noisy) / np.dot(clean, clean))
    return decibels(scaled) - decibels(noisy - scaled)


def delay(one: Samples, other: Samples) -> int:
    """Samples by which the other is later."""
    size = 2 * one.size
    found = np.fft.irfft(np.fft.rfft(other, size) * np.fft.rfft(one, size).conj())
    return int(found.argmax() + one.size) % size - one.size


def test_rnnoise_takes_noise_away_and_leaves_speech_in_its_place(
    rnnoise: RNNoise, call: Samples, tmp_path: Path
) -> None:
    noisy = call + hiss(call.size, 0.01)
    voices = separate(rnnoise, noisy, tmp_path)
    assert snr(call, voices) > snr(call, noisy) + 3
    before_speech = slice(2 * SECOND, 6 * SECOND)
    assert decibels(voices[before_speech]) < decibels(noisy[before_speech]) - 15
    assert abs(delay(call, voices)) <= SAMPLE_RATE / 1000


def test_a_recording_without_noise_is_left_as_it_is(call: Samples, tmp_path: Path) -> None:
    request = request_for(call, tmp_path)
    result = drive(RNNoise(), request)
    assert (result.audio, result.model) == (request.audio, None)
    assert "no noise to speak of" in result.warnings[0]
    request = request_for(call + hiss(call.size, 0.01), tmp_path)
    assert drive(RNNoise(), request).model == "rnnoise"


def test_a_share_of_the_original_stays(rnnoise: RNNoise, call: Samples, tmp_path: Path) -> None:
    noisy = call[6 * SECOND : 9 * SECOND] + hiss(3 * SECOND, 0.01)
    clean = separate(rnnoise, noisy, tmp_path)
    mixture = separate(RNNoise(original=0.25, clean=inf), noisy, tmp_path)
    np.testing.assert_allclose(mixture, 0.75 * clean + 0.25 * noisy, atol=1e-6)


def test_rnnoise_in_steps_is_rnnoise_in_one(
    rnnoise: RNNoise, call: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = call[6 * SECOND : 13 * SECOND + 345] + hiss(7 * SECOND + 345, 0.01)
    whole = separate(rnnoise, noisy, tmp_path)
    monkeypatch.setattr("workers.separate.rnnoise.STEP_SECONDS", 2)
    np.testing.assert_array_equal(separate(rnnoise, noisy, tmp_path), whole)


@pytest.mark.parametrize("size", [0, 1, 159, 16_001])
def test_rnnoise_keeps_the_length(rnnoise: RNNoise, size: int, tmp_path: Path) -> None:
    assert separate(rnnoise, hiss(size, 0.1), tmp_path).size == size


def test_a_job_that_is_dropped_leaves_its_running_step_alone(rnnoise: RNNoise, call: Samples, tmp_path: Path) -> None:
    job = rnnoise.job(request_for(call[: 3 * SECOND], tmp_path))
    step = rnnoise.run(job.send([*outputs_of(rnnoise.run(next(job)))]))
    assert isinstance(step, Iterator)
    next(step)
    job.close()
    assert outputs_of(step)[0].size >= 3 * SECOND


def test_two_jobs_do_not_hear_each_other(rnnoise: RNNoise, call: Samples, tmp_path: Path) -> None:
    part = call[6 * SECOND : 9 * SECOND]
    alone = separate(rnnoise, part, tmp_path)
    (tmp_path / "other").mkdir()
    other = rnnoise.job(request_for(hiss(SECOND, 0.1), tmp_path / "other"))
    outputs_of(rnnoise.run(other.send([*outputs_of(rnnoise.run(next(other)))])))
    np.testing.assert_array_equal(separate(rnnoise, part, tmp_path), alone)


def test_demucs_keeps_the_length(demucs: Demucs, tmp_path: Path) -> None:
    assert demucs.describe() == {"model": "htdemucs", "device": "cpu"}
    for size in (0, 1, demucs.window, 3 * demucs.window + 77):
        assert separate(demucs, hiss(size, 0.1), tmp_path).size == size


def test_the_demucs_of_batches_is_that_of_single_windows(
    demucs: Demucs, checkpoint: Path, call: Samples, tmp_path: Path
) -> None:
    part = call[6 * SECOND : 10 * SECOND + 77]
    single = separate(Demucs(model=str(checkpoint)), part, tmp_path)
    np.testing.assert_allclose(separate(demucs, part, tmp_path), single, atol=1e-5)
    assert np.abs(single).max() > 1e-3


def test_a_checkpoint_alone_is_a_model_too(checkpoint: Path, demucs: Demucs, call: Samples, tmp_path: Path) -> None:
    [file] = checkpoint.parent.glob("*.th")
    engine = Demucs(model=str(file))
    assert engine.describe()["model"] == "955717e8"
    part = call[6 * SECOND : 8 * SECOND]
    np.testing.assert_allclose(separate(engine, part, tmp_path), separate(demucs, part, tmp_path), atol=1e-5)


def test_louder_recordings_have_louder_voices(demucs: Demucs, call: Samples, tmp_path: Path) -> None:
    part = call[6 * SECOND : 8 * SECOND]
    quiet = separate(demucs, part / np.float32(100), tmp_path)
    np.testing.assert_allclose(100 * quiet, separate(demucs, part, tmp_path), atol=1e-4)


class Same(nn.Module):
    """A model whose every source is the mixture."""

    sources, audio_channels, samplerate, segment = ("other", "vocals"), 2, 44_100, 1.0

    def forward(self, mix: Tensor) -> Tensor:
        return mix[:, None].expand(-1, 2, -1, -1)


@pytest.fixture
def same(demucs: Demucs, monkeypatch: pytest.MonkeyPatch) -> Demucs:
    monkeypatch.setattr(demucs, "voices", Voices(Same()))
    return demucs


def test_what_a_model_leaves_alone_comes_back(same: Demucs, call: Samples, tmp_path: Path) -> None:
    """Up to 44.1 kHz, through windows that overlap, and down again."""
    voices = separate(same, call[: 12 * SECOND + 321], tmp_path)
    assert snr(voices, call[: voices.size]) > 40
    assert delay(call[: voices.size], voices) == 0


@pytest.mark.parametrize("size", [1, 999, 1_600, 1_601, 12_345])
@pytest.mark.parametrize("stride", [160, 1_120, 1_600])
def test_windows_blend_into_the_whole(size: int, stride: int) -> None:
    window = 1_600
    samples = hiss(size, 1.0)
    starts = window_starts(size, window, stride)
    assert starts[0] == 0
    assert all(start % TICK == 0 for start in starts)
    assert all(0 < later - earlier <= stride for earlier, later in pairwise(starts))
    assert size - TICK < starts[-1] + window <= max(window, size + TICK)
    blend = Blend(window)
    parts = []
    for start in starts:
        part = samples[start : start + window]
        parts.append(blend.add(start, np.pad(part, (0, window - part.size))))
    np.testing.assert_allclose(np.concatenate([*parts, blend.rest(size)]), samples, atol=1e-5)


def test_neighbours_fade_into_each_other() -> None:
    blend = Blend(1_600)
    blend.add(0, np.zeros(1_600, np.float32))
    joined = np.concatenate([blend.add(1_120, np.ones(1_600, np.float32)), blend.rest(2_720)])
    assert not joined[:1_120].any()
    assert (np.diff(joined[1_119:1_601]) >= 0).all()
    assert np.abs(np.diff(joined)).max() < 0.01
    assert (joined[1_600:] == 1).all()


@pytest.mark.parametrize("name", ["rnnoise", "demucs"])
def test_a_full_disk_is_told_and_leaves_no_file(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> None:
    engine: Engine = request.getfixturevalue(name)
    separate = request_for(hiss(3 * SECOND, 0.1), tmp_path)
    Path(separate.target).symlink_to("/dev/full")
    with pytest.raises(JobError) as error:
        drive(engine, separate)
    assert error.value.code == "storage_full"
    assert not Path(separate.target).is_symlink()


def test_hours_take_no_more_memory_than_minutes(demucs: Demucs, rnnoise: RNNoise, tmp_path: Path) -> None:
    """Neither the recording nor its voices are ever in memory as a whole; numpy tells tracemalloc what it takes."""
    size = 1_800 * SECOND
    (tmp_path / "audio.f32").touch()
    with open(tmp_path / "audio.f32", "r+b") as file:
        file.truncate(4 * size)
    request = Separate(AudioRef(str(tmp_path / "audio.f32"), size), str(tmp_path / "voices.f32"))
    for engine in (demucs, rnnoise):
        job = engine.job(request)
        tracemalloc.start()
        assert isinstance(play(job), Separation)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 20e6 < 4 * size / 5
        assert Path(request.target).stat().st_size == 4 * size


def play(job: JobSteps) -> Any:
    """A job to its end, with an output of the right size for every item but no model."""
    try:
        phase = next(job)
        while True:
            phase = job.send([0.0 if item.key == "level" else silence(item) for item in phase])
    except StopIteration as end:
        return end.value


def silence(item: WorkItem) -> Samples:
    assert item.span is not None
    size = item.payload[1].size if isinstance(item.payload[0], Denoiser) else SECOND
    return np.zeros(size, np.float32)
