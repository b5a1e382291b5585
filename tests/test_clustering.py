"""The clustering diarizer: real speech through MarbleNet's real weights; TitaNet's are random, so whose voice it hears
is tested on made-up embeddings."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import paths
from tests.support.diarizing import Diarizer, speakers
from tests.support.recordings import decoded
from tests.support.recordings import sample as sample_path
from workers.diarize.cascade import marblenet, multiscale
from workers.diarize.cascade.engine import ClusteringDiarizer, spans_of, speakers_of, voices_of
from workers.diarize.cascade.multiscale import Voices, chunks_of, cluster, nearest, split
from workers.diarize.cascade.titanet import SCALES, scales_of, segments_of, waveform
from workers.diarize.checkpoints import quiet, restore
from workers.diarize.embeddings import Bounds, Labels, unit_length
from workers.diarize.nme_sc import load_nme_sc
from workers.engine import StepOutputs, WorkItem
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, AudioRef, Diarization, Transcribe, Turn

pytestmark = pytest.mark.models

SHARED = paths.SHARED / "audio"
RECORDINGS = [
    "sample.wav",
    "dev00.wav",
    "dev01.wav",
    "jfk.flac",
    "podcast.opus",
    "stereo_diarization.wav",
    "hotwords.mp3",
    "multilingual.mp3",
]
NOISE = np.random.default_rng(7).normal(0, 1, 7 * SAMPLE_RATE).astype(np.float32)


@pytest.fixture(scope="module")
def titanet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with quiet():  # what NeMo's imports warn of
        from tests.support.models.titanet import titanet

        return titanet(tmp_path_factory.mktemp("titanet"))


@pytest.fixture(scope="module")
def engine(titanet_file: Path) -> ClusteringDiarizer:
    return ClusteringDiarizer(embedding=str(titanet_file))


@pytest.fixture(scope="module")
def call() -> Samples:
    return decoded(sample_path())


@pytest.fixture(scope="module")
def nme_sc() -> Any:
    return load_nme_sc()


@pytest.fixture
def diarize(engine: ClusteringDiarizer, tmp_path: Path) -> Diarizer:
    return Diarizer(engine, tmp_path)


def one_at_a_time(result: Diarization) -> bool:
    """Whether nobody speaks at the same time as another."""
    return all(one.end <= other.start for one, other in pairwise(result.turns))


def speech(turns: Sequence[Turn]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether anybody speaks, every 10 ms of 30 s."""
    mask = np.zeros(3000, dtype=np.bool_)
    for turn in turns:
        mask[round(turn.start * 100) : round(turn.end * 100)] = True
    return mask


# Through the engine.


@pytest.mark.parametrize("gain", [1.0, 0.003])
def test_turns_are_where_there_is_speech(diarize: Diarizer, call: Samples, gain: float) -> None:
    fields = [line.split() for line in sample_path(".rttm").read_text().splitlines()]
    truth = speech([Turn(float(f[3]), float(f[3]) + float(f[4]), f[7]) for f in fields])
    result = diarize(call * np.float32(gain))
    assert one_at_a_time(result)
    found = speech(result.turns)
    missed, false_alarm = (truth & ~found).sum() / truth.sum(), (found & ~truth).sum() / truth.sum()
    assert missed <= 0.01
    assert false_alarm <= 0.06


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_given_count_is_kept(diarize: Diarizer, call: Samples, count: int) -> None:
    result = diarize(call, num_speakers=count)
    assert speakers(result) == count
    assert result.warnings == ()


def test_bounds_are_kept(diarize: Diarizer, call: Samples) -> None:
    assert speakers(diarize(call, max_speakers=1)) == 1
    assert speakers(diarize(call, min_speakers=3)) >= 3
    assert 2 <= speakers(diarize(call, min_speakers=2, max_speakers=3)) <= 3


def test_a_count_beyond_the_speech_is_admitted(diarize: Diarizer, call: Samples) -> None:
    result = diarize(call[22 * SAMPLE_RATE : 23 * SAMPLE_RATE], num_speakers=9)
    assert 1 <= speakers(result) < 9
    assert "9 speakers" in result.warnings[0]


@pytest.mark.parametrize(
    "samples",
    [NOISE[:0], NOISE[:1], 0.1 * NOISE[:3200], np.zeros(7 * SAMPLE_RATE, np.float32), 1e-4 * NOISE, 0.1 * NOISE],
    ids=["empty", "one sample", "0.2 s", "zeros", "faint noise", "noise"],
)
def test_no_speech_no_turns(diarize: Diarizer, samples: Samples) -> None:
    assert diarize(samples).turns == ()
    assert diarize(samples, num_speakers=2).warnings != ()


def test_results_depend_on_nothing_else(diarize: Diarizer, call: Samples) -> None:
    first = diarize(call)
    diarize(call[: 11 * SAMPLE_RATE])
    torch.manual_seed(123)
    assert diarize(call) == first


def test_a_batch_changes_nothing(engine: ClusteringDiarizer, call: Samples) -> None:
    one = np.float32(1)
    windows = [WorkItem(("vad",), (call[:length], 0, one)) for length in (len(call), 5 * SAMPLE_RATE, 333)]
    segments = [
        WorkItem(("embed", 8000), (call, (start, start + 8000 - cut), one))
        for start, cut in [(100_000, 0), (120_000, 3000), (200_000, 7000)]
    ]
    for items in (windows, segments):
        for alone, together in zip([engine.run([each])[0] for each in items], engine.run(items), strict=True):
            assert alone == pytest.approx(together, abs=1e-4)


def test_a_long_recording_is_reduced_first(diarize: Diarizer, call: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiscale, "WHOLE", 60)
    monkeypatch.setattr(multiscale, "CHUNK", 50)
    monkeypatch.setattr(multiscale, "CHUNK_CLUSTERS", (20, 20))
    keys = []
    run = diarize.engine.run

    def watched(items: Sequence[WorkItem]) -> StepOutputs:
        keys.append(items[0].key)
        return run(items)

    monkeypatch.setattr(diarize.engine, "run", watched)
    assert speakers(diarize(call, num_speakers=3)) == 3
    assert ("reduce",) in keys


def test_what_does_not_fit_runs_on_the_cpu(
    engine: ClusteringDiarizer, call: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [WorkItem(("embed", 8000), (call, (100_000, 108_000), np.float32(1)))]
    assert engine.fallback(items) is None  # there is nothing less than a CPU
    there = engine.run(items)
    monkeypatch.setattr(engine.networks, "device", torch.device("cuda"))
    spare = engine.fallback(items)
    assert spare is not None
    assert spare[0] == pytest.approx(there[0], abs=1e-5)


def test_one_clustering_at_a_time(engine: ClusteringDiarizer) -> None:
    assert not engine.can_run_beside(("cluster",), [("reduce",)])
    assert engine.can_run_beside(("cluster",), [("embed", 8000)])
    assert engine.can_run_beside(("vad",), [("cluster",)])


def test_an_engine_says_what_it_is(engine: ClusteringDiarizer, diarize: Diarizer, call: Samples) -> None:
    assert engine.describe() == {"model": "titanet", "vad": "marblenet", "device": "cpu", "max_speakers": None}
    assert diarize(call[: 4 * SAMPLE_RATE]).model == "titanet"
    with pytest.raises(TypeError):
        engine.job(Transcribe(AudioRef("", 0)))


def test_a_broken_model_file_is_told(tmp_path: Path) -> None:
    from nemo.collections.asr.models import EncDecSpeakerLabelModel

    (tmp_path / "broken.nemo").write_bytes(b"no archive")
    with pytest.raises(RuntimeError, match="EncDecSpeakerLabelModel"):
        restore(EncDecSpeakerLabelModel, str(tmp_path / "broken.nemo"))


# MarbleNet as NeMo's model against the package's graph.


@pytest.fixture(scope="module")
def graph() -> Any:
    """The package's graph, which gives its features away too."""
    import onnx
    from onnxruntime import InferenceSession, SessionOptions

    model = onnx.load(str(marblenet.packaged()))
    model.graph.output.append(onnx.helper.make_tensor_value_info("/Log_output_0", onnx.TensorProto.FLOAT, None))
    options = SessionOptions()
    options.log_severity_level = 3
    return InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(params=RECORDINGS)
def recording(request: pytest.FixtureRequest) -> Samples:
    path = SHARED / request.param
    if not path.exists():
        pytest.skip("the shared recordings are not here")
    return decoded(path)


@torch.inference_mode()
def test_marblenet_is_what_the_package_ships(engine: ClusteringDiarizer, graph: Any, recording: Samples) -> None:
    network = engine.networks.marblenet
    integers = (recording * 32767).astype(np.int16)
    _, scores, _, features = graph.run(None, {"audio": integers[None, None]})
    expected = scores[0, :, 0]

    logits = network(
        processed_signal=torch.from_numpy(features), processed_signal_length=torch.tensor([features.shape[2]])
    )
    assert np.abs(torch.softmax(logits, dim=-1)[0, :, 1].numpy() - expected).max() < 1e-5

    # From the audio, with NeMo's own features. The graph takes the mean off, and has one frame more at the end; what
    # NeMo gets there fades, so that its pre-emphasis makes no click that the graph does not hear.
    signal = integers.astype(np.float32) / 32768
    signal -= signal.mean()
    signal = np.append(signal, signal[-1] * 0.97 ** np.arange(1, 161)).astype(np.float32)
    found = marblenet.probabilities_of(network, torch.from_numpy(signal)[None], torch.tensor([len(signal)]))[0].numpy()
    assert np.abs(found[: len(expected)] - expected).max() < 1e-3


@torch.inference_mode()
def test_windows_join_without_a_seam(engine: ClusteringDiarizer, call: Samples) -> None:
    long = np.tile(call, 2)[: 47 * SAMPLE_RATE + 123]
    network = engine.networks.marblenet
    whole = marblenet.probabilities_of(network, torch.from_numpy(long)[None], torch.tensor([len(long)]))[0].numpy()
    starts = marblenet.starts_of(len(long))
    assert len(starts) == 3
    parts = engine.run([WorkItem(("vad",), (long, start, np.float32(1))) for start in starts])
    joined = np.concatenate(parts)
    assert len(joined) == len(long) // marblenet.FRAME
    assert joined == pytest.approx(whole[: len(joined)], abs=1e-4)


# Segments, scales and turns.


def test_segments_cover_their_regions() -> None:
    [scale] = scales_of([(1.0, 0.5, 1.0)])
    found = segments_of([(0.5, 2.7), (4.0, 4.3)], scale) / SAMPLE_RATE
    assert found.tolist() == [[0.5, 1.5], [1.0, 2.0], [1.5, 2.5], [1.7, 2.7], [4.0, 4.3]]
    assert segments_of([], scale).shape == (0, 2)


def test_a_short_segment_is_repeated() -> None:
    samples = np.arange(10, dtype=np.float32)
    assert waveform(samples, (4, 7), 7).tolist() == [4, 5, 6, 4, 5, 6, 4]


def test_the_base_scale_comes_last() -> None:
    assert [scale.window for scale in scales_of(SCALES[::-1])] == [24_000, 20_000, 16_000, 12_000, 8000]
    for wrong in ([], [(1.0, 0.0, 1.0)], [(0.5, 1.0, 1.0)], [(1.0, 0.5, 0.0)]):
        with pytest.raises(ValueError, match="scale"):
            scales_of(wrong)


def test_speakers_part_in_the_middle_of_an_overlap() -> None:
    segments = np.array([[0.0, 0.5], [0.25, 0.75], [0.5, 1.0], [0.75, 1.25], [3.0, 3.5]]) * SAMPLE_RATE
    assert spans_of(segments.astype(np.int64), np.array([1, 1, 0, 1, 1])) == [
        (0.0, 0.625, 1),
        (0.625, 0.875, 0),
        (0.875, 1.25, 1),
        (3.0, 3.5, 1),
    ]


def test_each_base_segment_hears_the_nearest_of_every_scale() -> None:
    base = np.array([[0, 2], [1, 3], [2, 4], [8, 10]])
    assert nearest(np.array([[0, 4], [6, 10]]), base).tolist() == [0, 0, 0, 1]
    assert nearest(np.array([[0, 10]]), base).tolist() == [0, 0, 0, 0]


# Clustering, on embeddings whose speakers are known.


def made_up(count: int, items: int, seed: int = 0, spread: float = 0.5, stay: int = 6) -> tuple[Voices, Labels]:
    """Voices of speakers who take turns of `stay` items, on two scales."""
    chance = np.random.default_rng(seed)
    speakers = np.arange(items) // stay % count
    centres = chance.normal(size=(count, 64))
    scales = [
        unit_length((centres[speakers] + spread * chance.normal(size=(items, 64))).astype(np.float32)) for _ in range(2)
    ]
    return Voices(scales, [np.arange(items)] * 2, [1.0, 1.0]), speakers


def same(one: Labels, other: Labels) -> bool:
    """Whether two labellings differ by the labels' names only."""
    return (
        len(set(zip(one.tolist(), other.tolist(), strict=True))) == len(set(one.tolist())) == len(set(other.tolist()))
    )


def run_alone(
    steps: Generator[list[WorkItem], list[Any], Labels], engine: ClusteringDiarizer
) -> tuple[Labels, list[Any]]:
    keys = []
    try:
        phase = next(steps)
        while True:
            keys += [each.key for each in phase]
            phase = steps.send([engine.run([each])[0] for each in phase])
    except StopIteration as end:
        return end.value, keys


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_speakers_are_found_and_counted(nme_sc: Any, count: int) -> None:
    voices, truth = made_up(count, 240)
    assert same(cluster(nme_sc, voices, Bounds(count, count)), truth)
    if count > 1:
        assert same(cluster(nme_sc, voices, Bounds()), truth)


def test_fewer_than_there_are_is_the_most_that_is_allowed(nme_sc: Any) -> None:
    voices, _ = made_up(4, 240)
    assert cluster(nme_sc, voices, Bounds(1, 3)).max() == 2
    assert cluster(nme_sc, voices, Bounds(6, None)).max() >= 5


@pytest.mark.parametrize("items", range(1, 12))
def test_a_few_segments_keep_the_bounds(nme_sc: Any, items: int) -> None:
    voices, _ = made_up(2, items, stay=2)
    for bounds in (Bounds(), Bounds(2, 2), Bounds(3, 5), Bounds(1, 1), Bounds(9, None)):
        found = len(set(cluster(nme_sc, voices, bounds).tolist()))
        assert min(bounds.least, items) <= found <= min(bounds.most or items, items)


def test_equal_voices_can_still_be_told_apart_if_asked(nme_sc: Any) -> None:
    vectors = unit_length(np.ones((12, 8), np.float32))
    voices = Voices([vectors], [np.arange(12)], [1.0])
    assert cluster(nme_sc, voices, Bounds(3, 3)).max() == 2
    assert split(np.zeros(4, np.int64), np.ones((4, 4), np.float32), 3).max() == 2


def test_long_recordings_are_labelled_as_short_ones(
    engine: ClusteringDiarizer, nme_sc: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices, truth = made_up(4, 600)
    plain, keys = run_alone(speakers_of(voices, Bounds()), engine)
    assert keys == [("cluster",)]
    assert same(plain, truth)
    monkeypatch.setattr(multiscale, "WHOLE", 250)
    monkeypatch.setattr(multiscale, "CHUNK", 200)
    monkeypatch.setattr(multiscale, "TARGET", 150)
    long, keys = run_alone(speakers_of(voices, Bounds()), engine)
    assert keys == [("reduce",)] * 3 + [("cluster",), ("settle",)]
    assert same(long, plain)


def test_chunks_are_of_about_one_size() -> None:
    chunks = chunks_of(2 * multiscale.CHUNK + 1)
    assert [chunk.stop - chunk.start for chunk in chunks] == pytest.approx([683] * 3, abs=1)
    assert chunks[0].start == 0
    assert all(one.stop == other.start for one, other in pairwise(chunks))


def test_scales_are_fused_as_in_nemo(nme_sc: Any) -> None:
    """The matrix of similarities, and the labels, of two scales of real segments."""
    scales = scales_of([(1.5, 0.75, 1.0), (0.5, 0.25, 2.0)])
    segments = [segments_of([(0.3, 9.1), (11.0, 19.7), (21.2, 27.0)], scale) for scale in scales]
    chance = np.random.default_rng(0)
    centres = chance.normal(size=(2, 32))
    vectors = [
        unit_length(
            (
                centres[(own.mean(axis=1) > 15 * SAMPLE_RATE).astype(int)] + 0.6 * chance.normal(size=(len(own), 32))
            ).astype(np.float32)
        )
        for own in segments
    ]
    voices = voices_of([row for own in vectors for row in own], segments, scales)
    times = [torch.from_numpy(own / SAMPLE_RATE) for own in segments]
    weights = torch.tensor([[1.0, 2.0]])
    embeddings = [torch.from_numpy(own) for own in vectors]
    theirs = nme_sc.getMultiScaleCosAffinityMatrix(weights, embeddings, times) / 3  # in half precision
    assert voices.affinity().numpy() == pytest.approx(theirs.numpy(), abs=5e-3)
    counts = torch.tensor([len(own) for own in segments])
    labels = nme_sc.SpeakerClustering().forward_infer(
        torch.cat(embeddings), torch.cat(times), counts, weights, max_rp_threshold=0.25
    )
    assert same(cluster(nme_sc, voices, Bounds()), labels.numpy())
