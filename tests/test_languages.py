"""Several languages: the multilingual model that is put together at the installation, which language each part of a
recording is in, translation, and what documents say of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from diarserve.transcript.join import join
from tests.support.drive import drive, with_audio
from tests.support.recordings import SHARED, decoded, sample, write_wav
from tests.support.server import API, Server
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, DetectLanguage, Transcribe, Transcript, Turn, Word
from workers.whisper import catalog, languages, prepare
from workers.whisper.catalog import EMBEDDED, MULTILINGUAL, Catalog, locate
from workers.whisper.engine import Whisper
from workers.whisper.vad import Chunk

real = pytest.mark.skipif(
    not (prepare.prepared() / "model.bin").is_file() or not SHARED.is_dir(),
    reason="needs the extra `multilingual`, prepared, and the shared recordings",
)


# The model is put together


@pytest.fixture
def halves(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, name, data in ((first, "model.bin.part1", b"one"), (second, "model.bin.part2", b"two")):
        folder.mkdir()
        (folder / name).write_bytes(data)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (first / name).write_text(name)
    return first, second


def test_both_halves_make_the_model(halves: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "share" / "whisper-base"
    prepare.join(*halves, target, hashlib.sha256(b"onetwo").hexdigest())
    assert (target / "model.bin").read_bytes() == b"onetwo"
    assert {path.name for path in target.iterdir()} == {"config.json", "model.bin", "tokenizer.json", "vocabulary.txt"}


def test_weights_that_are_not_the_published_ones_are_refused(halves: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not those of Whisper base"):
        prepare.join(*halves, tmp_path / "share" / "whisper-base")
    assert list((tmp_path / "share").iterdir()) == []


def test_it_is_offered_once_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> Catalog:
        return Catalog(EMBEDDED, [MULTILINGUAL], folder=None, substitute=True)

    monkeypatch.setattr(catalog, "prepared", lambda: tmp_path)
    assert made().names == ["tiny.en"]
    assert made().choose("base")[1] == ["whisper_model 'base' is not available here: 'tiny.en' was used"]
    assert made().choose(None, english=False) == ("tiny.en", [])
    with pytest.raises(FileNotFoundError, match=r"diarserve\[multilingual\]"):
        locate(MULTILINGUAL)
    (tmp_path / "model.bin").touch()
    assert made().names == ["tiny.en", "base"]
    assert made().choose("base") == made().choose(None, english=False) == ("base", [])
    assert made().choose(None) == ("tiny.en", [])
    assert made().path("base") == locate("base") == tmp_path  # by its own name in other configurations too


# Which language


def chunk(*seconds: float) -> Chunk:
    """Spans of so many seconds."""
    edges = np.cumsum([0, *seconds]) * SAMPLE_RATE
    spans = tuple((int(start), int(end)) for start, end in pairwise(edges))
    return Chunk(np.zeros(int(edges[-1]), np.float32), spans)


def test_a_chunk_has_a_language_of_its_own_where_the_model_is_sure() -> None:
    assert languages.sure({"en": 0.99, "de": 0.005, "fr": 0.005}) == "en"
    assert languages.sure({"en": 0.6, "de": 0.002, "fr": 0.001}) is None
    assert languages.sure({"de": 0.98, "en": 0.013}) is None  # both may be in it


def test_a_piece_that_is_not_clear_has_a_language_that_is_heard_elsewhere() -> None:
    odds = [{"en": 0.9, "de": 0.1}, {"cy": 0.5, "en": 0.3, "de": 0.2}, {"de": 0.9}, {"cy": 0.5, "en": 0.1, "de": 0.4}]
    assert languages.settled(odds, "de") == ["en", "en", "de", "de"]
    assert languages.settled([{"cy": 0.5, "en": 0.3}], "de") == ["de"]


def test_pieces_in_one_language_are_written_together() -> None:
    whole = chunk(6, 6, 6, 6)
    parts = languages.pieces(whole)
    assert [part.seconds for part in parts] == [6, 6, 6, 6]
    told = languages.runs(parts, ["en", "de", "de", "en"])
    assert [(part.seconds, language) for part, language in told] == [(6, "en"), (12, "de"), (6, "en")]
    assert [span for part, _ in told for span in part.spans] == list(whole.spans)
    assert languages.main([(chunk(2), {"en": 0.9, "de": 0.1}), (chunk(20), {"en": 0.4, "de": 0.6})]) == "de"


def test_segments_are_in_one_language_each() -> None:
    words = [Word(" Hello", 0, 1, 1, "en"), Word(" there", 1, 2, 1, "en"), Word(" Guten", 2, 3, 1, "de")]
    joined = join([*words, Word(" Tag", 3, 4, 1)], [Turn(0, 4, "SPEAKER_00")], language="fr")
    assert [(part.text, part.language) for part in joined.segments] == [
        ("Hello there", "en"),
        ("Guten", "de"),
        ("Tag", "fr"),
    ]


# On real weights


@pytest.fixture(scope="module")
def german() -> Samples:
    """12 s: everybody who gets a copy of this software may use it."""
    return decoded(SHARED / "multilingual.mp3")[int(30.8 * SAMPLE_RATE) : int(42.8 * SAMPLE_RATE)]


@pytest.fixture(scope="module")
def base() -> Callable[..., Transcript]:
    engine = Whisper(models=[MULTILINGUAL])

    def transcribe(samples: Samples, **options: Any) -> Transcript:
        result = with_audio(samples, lambda ref: drive(engine, Transcribe(ref, **options)))
        assert isinstance(result, Transcript)
        return result

    return transcribe


def spoken(result: Transcript) -> list[tuple[str, str]]:
    """The text in each language, in turn."""
    runs = groupby(result.words, lambda word: word.language)
    return [(language, "".join(word.word for word in words)) for language, words in runs]


@real
@pytest.mark.models
def test_languages_are_told_apart_within_a_chunk(base: Callable[..., Transcript], german: Samples) -> None:
    """The call alone, and then with German after it: 5 s of that are in one chunk with 23 s of the call."""
    call = decoded(sample())
    result = base(np.concatenate([call, german]), model="base")
    assert [language for language, _ in spoken(result)] == ["en", "de"]
    (_, english), (_, other) = spoken(result)
    assert "originally from Chicago" in english
    assert "Software" in other
    assert result.words[-1].start > 38
    assert (result.language, result.model, result.warnings) == ("en", "base", ())


@real
@pytest.mark.models
def test_german_is_detected_and_translated(base: Callable[..., Transcript], german: Samples) -> None:
    result = base(german, model="base")
    assert result.language == "de"
    assert "dazugehörigen Dokumentation" in spoken(result)[0][1]
    english = base(german, translate=True)  # the default knows English only: the other model answers for it
    assert (english.language, english.model) == ("de", "base")
    assert "software" in spoken(english)[0][1]
    assert "und" not in spoken(english)[0][1].split()


@real
@pytest.mark.models
def test_the_language_is_detected_by_speech_where_there_is_any(german: Samples) -> None:
    engine, silence = Whisper(models=[MULTILINGUAL]), np.zeros(40 * SAMPLE_RATE, np.float32)
    found = with_audio(np.concatenate([silence, german]), lambda ref: drive(engine, DetectLanguage(ref)))
    assert (found.language, found.model) == ("de", "base")
    assert found.probability > 0.9
    nobody = with_audio(silence, lambda ref: drive(engine, DetectLanguage(ref)))
    assert 0 < nobody.probability <= 1


@real
@pytest.mark.models
def test_german_over_http(server: Server, german: Samples, tmp_path: Path) -> None:
    write_wav(tmp_path / "german.wav", german)
    recording = (tmp_path / "german.wav").read_bytes()

    def post(path: str, **fields: str) -> Any:
        answer = requests.post(server.url + path, files={"file": recording}, data=fields, timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    document = post(f"{API}/transcribe", whisper_model="base")
    assert (document["language"], document["models"]["whisper"]) == ("de", "base")
    assert {segment["language"] for segment in document["segments"]} == {"de"}
    assert "Software" in document["text"]
    translated = post("/v1/audio/translations", model="whisper-1", response_format="verbose_json")
    assert (translated["task"], translated["language"]) == ("translate", "german")
    assert "software" in translated["text"]
    files = {"audio_file": recording}
    detected = requests.post(f"{server.url}/detect-language", files=files, timeout=60).json()
    assert (detected["detected_language"], detected["language_code"]) == ("german", "de")
    assert detected["confidence"] > 0.9
    subtitles = requests.post(f"{server.url}/asr?task=translate&output=srt", files=files, timeout=60)
    assert "software" in subtitles.text
    features = server.get(f"{API}/features")
    assert features["features"]["translation"] is True
    assert features["languages"] is None
    assert "base" in features["models"]["whisper"]["models"]
