"""The Whisper engine with real weights on real speech."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import chain, count, pairwise
from pathlib import Path

import av
import jiwer
import numpy as np
import pytest

from tests.support import paths
from tests.support.drive import drive
from tests.support.words import check_times
from workers.engine import JobError
from workers.media.samples import Samples
from workers.messages import AudioRef, Transcribe, Transcript, Word
from workers.whisper.decoding import Decoding
from workers.whisper.engine import REST_SECONDS, Whisper
from workers.whisper.texts import repetitive
from workers.whisper.vad import CHUNK_SECONDS, WINDOW, Chunk, pack, segments

pytestmark = pytest.mark.models

SHARED = paths.SHARED / "audio"
RATE = 16_000


def pyannote_sample(name: str) -> Path:
    spec = find_spec("pyannote")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return next(path for place in spec.submodule_search_locations for path in Path(place).rglob(name))


def read(path: Path) -> Samples:
    blocks = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", RATE)
        for frame in (*container.decode(audio=0), None):
            blocks += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    return np.concatenate(blocks)


def plain(text: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9 ]", "", text.lower().replace("-", " ")).split())


def check_words(words: tuple[Word, ...], duration: float) -> None:
    check_times(list(words), duration)
    assert all(0 <= word.probability <= 1 and word.word.strip() for word in words)


@pytest.fixture(scope="module")
def engine() -> Whisper:
    return Whisper(parallel=2, substitute=True)


@pytest.fixture(scope="module")
def sample() -> Samples:
    return read(pyannote_sample("sample.wav"))


@pytest.fixture
def transcribe(engine: Whisper, tmp_path: Path) -> Callable[..., Transcript]:
    numbers = count()

    def run(
        samples: Samples, language: str | None = None, model: str | None = None, shown: list[list[Word]] | None = None
    ) -> Transcript:
        path = tmp_path / f"{next(numbers)}.f32"
        samples.astype(np.float32).tofile(path)
        result = drive(engine, Transcribe(AudioRef(str(path), samples.size), language, model), shown)
        assert isinstance(result, Transcript)
        return result

    return run


def test_telephone_call(transcribe: Callable[..., Transcript], sample: Samples) -> None:
    shown: list[list[Word]] = []
    result = transcribe(sample, shown=shown)
    text = plain("".join(word.word for word in result.words))
    check_words(result.words, sample.size / RATE)
    check_words(tuple(chain.from_iterable(shown)), sample.size / RATE)
    assert (result.language, result.model, result.warnings) == ("en", "tiny.en", ())
    assert "this is diane in new jersey" in text
    assert "originally from chicago" in text
    assert result.words[0].start == pytest.approx(6.69, abs=0.3)
    if SHARED.is_dir():
        lines = (SHARED / "sample.stm").read_text().splitlines()
        spoken = plain(" ".join(line.split(None, 5)[5] for line in lines))
        assert jiwer.wer(spoken, text) < 0.2


def test_times_are_the_recordings_own(transcribe: Callable[..., Transcript], sample: Samples) -> None:
    """Forty seconds of silence in front move every word by forty seconds."""
    silence = np.zeros(40 * RATE, np.float32)
    here = transcribe(sample[6 * RATE : 18 * RATE])
    there = transcribe(np.concatenate([silence, sample[6 * RATE : 18 * RATE], silence]))
    pairs = {word.word: word.start for word in here.words if word.probability > 0.9}
    moved = [word.start - pairs[word.word] for word in there.words if word.word in pairs]
    assert len(moved) > 8
    assert np.median(moved) == pytest.approx(40, abs=0.1)


def test_the_words_of_a_chunk_go_back_to_their_spans() -> None:
    chunk = Chunk(np.zeros(100 * RATE, np.float32), ((10 * RATE, 12 * RATE), (50 * RATE, 53 * RATE)))
    assert chunk.size == chunk.samples().size == 5 * RATE
    assert chunk.locate(0.5, 1.0) == (10.5, 11.0)
    assert chunk.locate(2.5, 3.0) == (50.5, 51.0)
    assert chunk.locate(1.5, 2.2) == (11.5, 12.0)  # over the seam: the span that has its middle
    assert chunk.locate(1.9, 2.5) == (50.0, 50.5)
    assert chunk.locate(4.9, 9.0) == (52.9, 53.0)


def test_segments_and_chunks_are_in_order_and_in_bounds() -> None:
    rng = np.random.default_rng(1)
    size = 3_000 * WINDOW - 100
    for _ in range(20):
        steps = np.repeat(rng.random(300), rng.integers(1, 60, 300))[:3_000]
        likely = np.resize(steps, 3_000).astype(np.float32)
        found = segments(likely, size)
        assert all(0 <= start < end <= size for start, end in found)
        assert all(one[1] <= other[0] for one, other in pairwise(found))
        chunks = pack(np.zeros(size, np.float32), found)
        assert all(chunk.size <= CHUNK_SECONDS * RATE for chunk in chunks)
        assert [span for chunk in chunks for span in chunk.spans] == found
    always = segments(np.ones(3_000, np.float32), size)
    assert sum(end - start for start, end in always) == size
    assert segments(np.zeros(3_000, np.float32), size) == []


@pytest.mark.parametrize("samples", [0, 1, 100, 3_200, 160_000])
def test_nothing_said(transcribe: Callable[..., Transcript], samples: int) -> None:
    assert transcribe(np.zeros(samples, np.float32)).words == ()


def test_a_syllable(transcribe: Callable[..., Transcript], sample: Samples) -> None:
    for start in (6.7, 9.0, 15.1):
        cut = sample[int(start * RATE) : int((start + 0.2) * RATE)]
        check_words(transcribe(cut).words, 0.2)


def test_a_chunk_has_halves() -> None:
    audio = np.zeros(100, np.float32)
    assert [half.spans for half in Chunk(audio, ((0, 100),)).halves()] == [((0, 50),), ((50, 100),)]
    spans = ((0, 10), (10, 30), (40, 70), (70, 100))
    assert [half.spans for half in Chunk(audio, spans).halves()] == [spans[:2], spans[2:]]


def test_a_loop_is_seen() -> None:
    said = "Ask not what your country can do for you, ask what you can do for your country. " * 2
    assert not repetitive(said)
    assert not repetitive("")
    assert repetitive(said + "fi-" * 100)


def test_memory_goes_back_after_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, trimmed = Whisper(), list[float]()
    for idle in (0.0, 5.0, REST_SECONDS, REST_SECONDS + 5, 0.0, REST_SECONDS + 1):
        monkeypatch.setattr("workers.runtime.devices.trim", lambda idle=idle: trimmed.append(idle))
        engine.maintain(idle)
    assert trimmed == [REST_SECONDS, REST_SECONDS + 1]


def test_languages(transcribe: Callable[..., Transcript], sample: Samples) -> None:
    with pytest.raises(JobError) as unknown:
        transcribe(sample, language="xx")
    assert unknown.value.code == "invalid_language"
    with pytest.raises(JobError) as other:
        transcribe(sample, language="de")
    assert other.value.code == "language_unavailable"


def test_another_model_is_a_warning(transcribe: Callable[..., Transcript]) -> None:
    [warning] = transcribe(np.zeros(RATE, np.float32), model="medium.en").warnings
    assert "medium.en" in warning
    assert "tiny.en" in warning
    assert transcribe(np.zeros(RATE, np.float32), model="tiny.en").warnings == ()


def test_two_threads_say_the_same(transcribe: Callable[..., Transcript], sample: Samples) -> None:
    cut = sample[6 * RATE : 18 * RATE]
    alone = transcribe(cut).words
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: transcribe(cut).words, range(2)))
    assert both == [alone, alone]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared recordings")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("jfk.flac", "ask what you can do for your country"),
        ("podcast.opus", "thank you so much for having me"),
        ("dev00.wav", "marketing expert"),
        ("hotwords.mp3", "folder again"),
        ("stereo_diarization.wav", "behind the curtain on the left"),
    ],
)
def test_recordings(transcribe: Callable[..., Transcript], name: str, said: str) -> None:
    samples = read(SHARED / name)
    result = transcribe(samples[: 30 * RATE])
    check_words(result.words, samples.size / RATE)
    assert said in plain("".join(word.word for word in result.words))


def test_the_first_sentences_of_a_long_chunk_are_known_before_its_rest(engine: Whisper, sample: Samples) -> None:
    chunk = Chunk(sample, ((6 * RATE, 30 * RATE),))
    with engine.cache.use(engine.name) as recognizer:
        writing = recognizer.write([chunk], Decoding("en", interim=True))
        interims = []
        while True:
            try:
                interims.append(next(writing))
            except StopIteration as end:
                [written] = end.value
                words = written.words
                break
    [first] = filter(None, interims)
    known = [word.word for word in first.output]
    assert known[-1].endswith((".", "?"))
    assert 5 < len(known) < len(words)
    assert [word.word for word in words[: len(known)]] == known
