"""The networks rebuilt give what the libraries give that they were trained in, in torch as on a CPU without it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torchaudio.compliance import kaldi

from tests.support.recordings import decoded
from tests.support.recordings import sample as sample_path
from workers.diarize.embedded import nme_sc, on_cpu, prepare
from workers.diarize.embedded.campplus import load_campplus
from workers.diarize.embedded.checkpoints import CAMPPLUS, SEGMENTATION, SEGMENTATION_3, Checkpoint
from workers.diarize.embedded.engine import mel_windows
from workers.diarize.embedded.fbank import Fbank
from workers.diarize.embedded.frames import (
    EMBEDDING_FRAMES,
    FRAME_CENTER,
    FRAME_STEP,
    FRAMES,
    LONG_WINDOW,
    MEL_HOP,
    MEL_WINDOW,
    MELS,
    WINDOW,
)
from workers.diarize.embedded.segmentation import load_segmentation
from workers.diarize.nme_sc import load_nme_sc
from workers.media.samples import Samples

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def call() -> Samples:
    return decoded(sample_path())


def test_segmentation_equals_pyannotes(call: Samples) -> None:
    """Also where windows overlap, in a recording with a constant offset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyannote.audio import Model

        reference = Model.from_pretrained(SEGMENTATION.path())
    assert reference is not None
    reference.eval()
    samples = torch.from_numpy(call[: 3 * WINDOW] + np.float32(0.01))
    step = 118 * FRAME_STEP
    envelopes, activity = load_segmentation(SEGMENTATION.path(), torch.device("cpu"))
    with torch.inference_mode():
        ours = activity(envelopes(samples, step))
        theirs = reference(samples.unfold(0, WINDOW, step)[:, None])
    assert ours.shape == (6, FRAMES, 3)
    assert (ours - theirs).abs().max() < 1e-3
    assert reference.receptive_field.step == pytest.approx(FRAME_STEP / 16_000)
    middle = reference.receptive_field.start + reference.receptive_field.duration / 2
    assert middle == pytest.approx(FRAME_CENTER / 16_000, abs=0.001)


@pytest.mark.parametrize(
    ("name", "checkpoint", "window"),
    [
        (on_cpu.SEGMENTATION, SEGMENTATION, WINDOW),
        pytest.param(on_cpu.SECOND, SEGMENTATION_3, LONG_WINDOW, marks=pytest.mark.slow),
    ],
)
def test_a_cpu_gives_what_a_gpu_gives(name: str, checkpoint: Checkpoint, window: int, call: Samples) -> None:
    """ONNX Runtime and numpy, with the weights that ship, give what torch gives with those of the checkpoint."""
    samples, step = call[: 3 * window], 118 * FRAME_STEP
    envelopes, activity = load_segmentation(checkpoint.path(), torch.device("cpu"), window)
    with torch.inference_mode():
        theirs = activity(envelopes(torch.from_numpy(samples), step)).numpy()
    ours = on_cpu.Segmentation(name, window, 1)([(samples, step)])
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3)


def test_the_weights_that_ship_are_made_of_the_checkpoints(tmp_path: Path) -> None:
    """All but CAM++ in int8, whose making takes half a minute: another test holds what it gives."""
    prepare.write_segmentation(SEGMENTATION, WINDOW, on_cpu.SEGMENTATION, tmp_path)
    prepare.write_segmentation(SEGMENTATION_3, LONG_WINDOW, on_cpu.SECOND, tmp_path)
    for made in tmp_path.iterdir():
        assert made.read_bytes() == (on_cpu.WEIGHTS / made.name).read_bytes(), made.name


@pytest.mark.slow
@pytest.mark.parametrize("items", [3, 30, 200])
def test_clusters_equal_nemos(items: int) -> None:
    random = np.random.default_rng(items)
    centres = random.normal(size=(4, 192))
    voices = (centres[random.integers(0, 4, items)] + 0.8 * random.normal(size=(items, 192))).astype(np.float32)
    voices /= np.linalg.norm(voices, axis=1, keepdims=True)
    nemo = load_nme_sc()
    affinity = nemo.ScalerMinMax(torch.from_numpy(voices @ voices.T))
    counted, neighbours = nemo.NMESC(affinity, items, sparse_search_volume=20, parallelism=False).forward()
    theirs = nemo.SpectralClustering(n_clusters=int(counted), n_random_trials=5).forward(
        nemo.getAffinityGraphMat(affinity, neighbours)
    )
    assert nme_sc.estimate(affinity.numpy(), items) == (counted, neighbours)
    assert nme_sc.cluster(nme_sc.graph(affinity.numpy(), int(neighbours)), int(counted)).tolist() == theirs.tolist()


def test_features_equal_kaldis(call: Samples) -> None:
    part = torch.from_numpy(call[16_000 : 16_000 + (EMBEDDING_FRAMES - 1) * MEL_HOP + MEL_WINDOW])
    theirs = kaldi.fbank(part[None], num_mel_bins=MELS, sample_frequency=16_000, dither=0)
    frames = part.unfold(0, MEL_WINDOW, MEL_HOP)
    for ours in (Fbank()(frames), torch.from_numpy(on_cpu.Fbank()(frames.numpy()))):
        torch.testing.assert_close(ours, theirs - theirs.mean(dim=0), rtol=0, atol=1e-3)


def test_few_mel_frames_repeat(call: Samples) -> None:
    windows = mel_windows(call, np.array([100, 101, 105]))
    assert windows.shape == (EMBEDDING_FRAMES, 400)
    np.testing.assert_array_equal(windows[3:6], windows[:3])
    np.testing.assert_array_equal(windows[2], call[105 * 160 - 200 : 105 * 160 + 200])


def test_embeddings_tell_speakers_apart(call: Samples) -> None:
    """The two of the call: 18.6-21.4 s and 12-14 s are one voice, 22-24 s is the other."""
    parts = [np.arange(100 * start, 100 * start + EMBEDDING_FRAMES) for start in (12, 19, 22)]
    one, again, other = on_cpu.Encoder(1)(np.stack([mel_windows(call, part) for part in parts]))
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    assert one @ again > 0.5 > 0.3 > one @ other


def test_the_int8_network_is_nearly_the_float32_one(call: Samples) -> None:
    starts = range(700, 2700, 100)
    pieces = np.stack([mel_windows(call, np.arange(start, start + EMBEDDING_FRAMES)) for start in starts])
    with torch.inference_mode():
        exact = load_campplus(CAMPPLUS.path())(Fbank()(torch.from_numpy(pieces))).numpy()
    alike = (on_cpu.Encoder(1)(pieces) * exact).sum(axis=1)
    assert alike.mean() > 0.98
    assert alike.min() > 0.93
