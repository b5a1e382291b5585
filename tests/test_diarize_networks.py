"""The networks rebuilt in plain torch give what the libraries give that they were trained in."""

from __future__ import annotations

import warnings

import librosa
import numpy as np
import pytest
import torch

from tests.support.recordings import decoded, packaged
from tests.support.recordings import sample as sample_path
from workers.diarize.embedded.embedding import EMBEDDING_FRAMES, MELS, MelFrames, SpeakerEncoder, load_encoder
from workers.diarize.embedded.engine import mel_windows
from workers.diarize.embedded.onnx_graph import Layers
from workers.diarize.embedded.segmentation import (
    BANDS,
    ENVELOPE,
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
    [(Activity(), (BANDS, ENVELOPE)), (SpeakerEncoder(), (EMBEDDING_FRAMES, MELS))],
    ids=["segmentation", "embedding"],
)
def test_it_does_not_matter_what_runs_a_network(network: Layers, shape: tuple[int, int]) -> None:
    """ONNX Runtime on a CPU gives what torch gives, which runs it on a GPU."""
    batch = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    ours = network.on(torch.device("cpu"), shape, 1)(batch)
    torch.testing.assert_close(ours, network(batch), rtol=1e-3, atol=1e-5)


def test_mels_equal_librosas(call: Samples) -> None:
    theirs = librosa.feature.melspectrogram(y=call, sr=16_000, n_fft=400, hop_length=160, n_mels=40).T
    last = len(theirs) - EMBEDDING_FRAMES
    for first in (0, 700, last):
        ours = MelFrames()(torch.from_numpy(mel_windows(call, np.arange(first, first + EMBEDDING_FRAMES)))).numpy()
        np.testing.assert_allclose(ours, theirs[first : first + EMBEDDING_FRAMES], rtol=1e-3, atol=1e-4 * theirs.max())


def test_few_mel_frames_repeat(call: Samples) -> None:
    windows = mel_windows(call, np.array([100, 101, 105]))
    assert windows.shape == (EMBEDDING_FRAMES, 400)
    np.testing.assert_array_equal(windows[3:6], windows[:3])
    np.testing.assert_array_equal(windows[2], call[105 * 160 - 200 : 105 * 160 + 200])


def test_embeddings_tell_speakers_apart(call: Samples) -> None:
    """The two of the call: 18.6-21.4 s and 12-14 s are one voice, 22-24 s is the other."""
    encoder, mels = load_encoder(packaged("resemblyzer", "pretrained.pt"), torch.device("cpu")), MelFrames()
    parts = [np.arange(100 * start, 100 * start + EMBEDDING_FRAMES) for start in (12, 19, 22)]
    with torch.inference_mode():
        frames = mels(torch.from_numpy(np.stack([mel_windows(call, part) for part in parts])))
        one, again, other = encoder(frames * (1.5 / frames.sum(dim=2).mean(dim=1))[:, None, None])
    assert one.norm() == pytest.approx(1, abs=1e-5)
    assert one @ again > one @ other
