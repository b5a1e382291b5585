"""The networks rebuilt in plain torch give what the libraries give that they were trained in."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torchaudio.compliance import kaldi

from tests.support.recordings import decoded, packaged
from tests.support.recordings import sample as sample_path
from workers.diarize.embedded import embedding
from workers.diarize.embedded.campplus import load_campplus
from workers.diarize.embedded.embedding import Encoder, checkpoint
from workers.diarize.embedded.engine import mel_windows
from workers.diarize.embedded.fbank import EMBEDDING_FRAMES, MEL_HOP, MEL_WINDOW, MELS, Fbank
from workers.diarize.embedded.onnx_graph import Layers
from workers.diarize.embedded.segmentation import (
    BANDS,
    FRAME_CENTER,
    FRAME_STEP,
    FRAMES,
    WINDOW,
    Activity,
    load_segmentation,
)
from workers.media.samples import Samples

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def call() -> Samples:
    return decoded(sample_path())


def test_segmentation_equals_pyannotes(call: Samples) -> None:
    """Also where windows overlap, in a recording with a constant offset."""
    checkpoint = packaged("whisperx", "assets", "pytorch_model.bin")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyannote.audio import Model

        reference = Model.from_pretrained(checkpoint)
    assert reference is not None
    reference.eval()
    samples = torch.from_numpy(call[: 3 * WINDOW] + np.float32(0.01))
    step = 118 * FRAME_STEP
    network = load_segmentation(checkpoint, torch.device("cpu"))
    with torch.inference_mode():
        ours = network.activity(network.envelopes(samples, step))
        theirs = reference(samples.unfold(0, WINDOW, step)[:, None])
    assert ours.shape == (6, FRAMES, 3)
    assert (ours - theirs).abs().max() < 1e-3
    assert reference.receptive_field.step == pytest.approx(FRAME_STEP / 16_000)
    middle = reference.receptive_field.start + reference.receptive_field.duration / 2
    assert middle == pytest.approx(FRAME_CENTER / 16_000, abs=0.001)


@pytest.mark.parametrize(
    ("network", "shape"),
    [(Activity(3), (BANDS, 2658)), (Activity(7), (BANDS, 5325))],
    ids=["segmentation", "segmentation-3.0"],
)
def test_it_does_not_matter_what_runs_a_network(network: Layers, shape: tuple[int, int]) -> None:
    """ONNX Runtime on a CPU gives what torch gives, which runs it on a GPU."""
    batch = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    ours = network.on(torch.device("cpu"), shape, 1)(batch)
    torch.testing.assert_close(ours, network(batch), rtol=1e-3, atol=1e-5)


def test_features_equal_kaldis(call: Samples) -> None:
    part = torch.from_numpy(call[16_000 : 16_000 + (EMBEDDING_FRAMES - 1) * MEL_HOP + MEL_WINDOW])
    theirs = kaldi.fbank(part[None], num_mel_bins=MELS, sample_frequency=16_000, dither=0)
    ours = Fbank()(part.unfold(0, MEL_WINDOW, MEL_HOP))
    torch.testing.assert_close(ours, theirs - theirs.mean(dim=0), rtol=0, atol=1e-3)


def test_few_mel_frames_repeat(call: Samples) -> None:
    windows = mel_windows(call, np.array([100, 101, 105]))
    assert windows.shape == (EMBEDDING_FRAMES, 400)
    np.testing.assert_array_equal(windows[3:6], windows[:3])
    np.testing.assert_array_equal(windows[2], call[105 * 160 - 200 : 105 * 160 + 200])


@pytest.mark.parametrize("form", ["int8", "float32"])
def test_embeddings_tell_speakers_apart(
    call: Samples, form: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The two of the call: 18.6-21.4 s and 12-14 s are one voice, 22-24 s is the other."""
    if form == "float32":
        monkeypatch.setattr(embedding, "prepared", lambda: tmp_path / "not there")
    encoder = Encoder(torch.device("cpu"))
    assert encoder.form == form
    parts = [np.arange(100 * start, 100 * start + EMBEDDING_FRAMES) for start in (12, 19, 22)]
    with torch.inference_mode():
        one, again, other = encoder(Fbank()(torch.from_numpy(np.stack([mel_windows(call, part) for part in parts]))))
    assert one.norm() == pytest.approx(1, abs=1e-5)
    assert one @ again > 0.5 > 0.3 > one @ other


def test_the_int8_network_is_nearly_the_float32_one(call: Samples) -> None:
    starts = range(700, 2700, 100)
    pieces = np.stack([mel_windows(call, np.arange(start, start + EMBEDDING_FRAMES)) for start in starts])
    features = Fbank()(torch.from_numpy(pieces))
    with torch.inference_mode():
        alike = (Encoder(torch.device("cpu"))(features) * load_campplus(checkpoint())(features)).sum(dim=1)
    assert alike.mean() > 0.98
    assert alike.min() > 0.93
