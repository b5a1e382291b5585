"""Whisper by name: which models may be asked for, which are in memory, and what the request says of the writing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_whisper.tokenizer import _LANGUAGE_CODES as LANGUAGES

from tests.support.drive import drive
from tests.support.models.whisper import whisper
from tests.support.recordings import decoded
from tests.support.recordings import sample as sample_path
from workers.engine import JobError, WorkItem, outputs_of
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, AudioRef, Transcribe, Transcript, Word
from workers.runtime import devices
from workers.whisper import catalog
from workers.whisper.catalog import canonical, locate, name_of
from workers.whisper.decoding import Decoding
from workers.whisper.engine import Whisper
from workers.whisper.model_cache import ModelCache
from workers.whisper.recognizer import Recognizer
from workers.whisper.vad import Chunk

pytestmark = pytest.mark.models

Ask = Callable[..., Transcript]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of 7 MB that write nonsense."""
    made = tmp_path_factory.mktemp("models")
    whisper(made / "english")
    whisper(made / "medium", multilingual=True)
    return made


@pytest.fixture(scope="module")
def call() -> Samples:
    return decoded(sample_path())


@pytest.fixture(scope="module")
def ref(tmp_path_factory: pytest.TempPathFactory, call: Samples) -> AudioRef:
    """4 s of a telephone call: and I'm Sheila in Texas, originally from Chicago."""
    path = tmp_path_factory.mktemp("audio") / "call.f32"
    call[14 * SAMPLE_RATE : 18 * SAMPLE_RATE].tofile(path)
    return AudioRef(str(path), 4 * SAMPLE_RATE)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Whisper:
    return Whisper(models=["medium", "english"], folder=str(folder))


@pytest.fixture
def ask(engine: Whisper, ref: AudioRef) -> Ask:
    return lambda **options: transcribe(engine, ref, **options)


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, **_: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(catalog, "download_model", offline)


def transcribe(engine: Whisper, ref: AudioRef, **options: Any) -> Transcript:
    result = drive(engine, Transcribe(ref, **options))
    assert isinstance(result, Transcript)
    return result


def text(result: Transcript) -> str:
    return "".join(word.word for word in result.words)


# Names


def test_a_name_is_a_local_folder_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate(str(folder / "medium")) == folder / "medium"
    assert locate("medium", str(folder)) == folder / "medium"
    assert (locate("embedded") / "model.bin").is_file()
    assert name_of(str(folder / "medium") + "/") == "medium"
    assert name_of("embedded") == "tiny.en"
    assert name_of("someone/whisper-of-hers") == "someone/whisper-of-hers"
    with pytest.raises(FileNotFoundError):
        locate("large-v3", str(folder))
    asked = []

    def hub(name: str, local_files_only: bool) -> str:
        asked.append((name, local_files_only))
        if local_files_only:
            return str(folder)  # what an interrupted download leaves
        return str(folder / "english")

    monkeypatch.setattr(catalog, "download_model", hub)
    assert locate("large-v3", str(folder)) == folder / "english"
    assert asked == [("large-v3", True), ("large-v3", False)]


def test_names_of_one_model() -> None:
    assert canonical("turbo") == canonical("large-v3-turbo") != canonical("large-v3")


def test_a_default_that_is_not_there_stops_the_worker() -> None:
    with pytest.raises(FileNotFoundError, match="nonesuch"):
        Whisper("nonesuch")
    with pytest.raises(MemoryError, match="budget"):
        Whisper(memory_mib=5)


# Which model answers


def test_the_request_names_the_model(ask: Ask) -> None:
    assert ask().model == "tiny.en"
    for name in ("tiny.en", "embedded"):
        asked = ask(model=name)
        assert (asked.model, asked.warnings) == ("tiny.en", ())
        assert "originally from Chicago" in text(asked)
    other = ask(model="english")
    assert (other.model, other.language, other.warnings) == ("english", "en", ())
    assert "Chicago" not in text(other)


def test_a_model_that_is_not_on_the_list(ask: Ask) -> None:
    for name in ("medium.en", "nonesuch", "../english", "Systran/faster-whisper-tiny"):
        with pytest.raises(JobError) as refused:
            ask(model=name)
        assert refused.value.code == "model_unavailable"
        assert "'tiny.en', 'medium', 'english'" in refused.value.message


def test_the_default_may_stand_in_for_known_models_only(folder: Path, ref: AudioRef) -> None:
    engine = Whisper(str(folder / "english"), substitute=True)
    [warning] = transcribe(engine, ref, model="medium.en").warnings
    assert "'medium.en'" in warning
    assert "'english'" in warning
    with pytest.raises(JobError):
        transcribe(engine, ref, model="nonesuch")
    assert {"english", "medium.en", "turbo"} <= set(engine.describe()["accepts"])


def test_a_listed_model_that_cannot_be_loaded(folder: Path, ref: AudioRef, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.bin").write_bytes(b"no weights")
    engine = Whisper(models=["broken", "large-v3", str(folder / "english")], folder=str(tmp_path), memory_mib=200)
    for name in ("broken", "large-v3"):
        with pytest.raises(JobError) as refused:
            transcribe(engine, ref, model=name)
        assert refused.value.code == "model_unavailable"
        assert str(tmp_path) not in refused.value.message
        assert f"{name!r} is not available" in refused.value.message
        assert "'english'" in refused.value.message
    assert engine.describe()["loaded"] == ["tiny.en"]
    assert transcribe(engine, ref, model="english").model == "english"


def test_what_an_engine_says_of_itself(engine: Whisper) -> None:
    said = engine.describe()
    assert said["model"] == "tiny.en"
    assert said["device"] == "cpu"
    assert said["compute_type"].startswith("int8")
    assert said["models"] == ["tiny.en", "medium", "english"]
    assert said["accepts"] == ["tiny.en", "medium", "english", "embedded"]
    assert said["multilingual"] is False
    assert said["loaded_mib"] >= 40


# What is in memory


def test_room_for_one(folder: Path, ref: AudioRef) -> None:
    """A more urgent job takes the room between two steps of another, which goes on after it."""
    engine = Whisper(models=["medium"], folder=str(folder), resident=1)
    alone = transcribe(engine, ref)
    job = engine.job(Transcribe(ref))
    heard = engine.run(next(job))
    phase = job.send(list(outputs_of(heard)))
    assert transcribe(engine, ref, model="medium", language="de").model == "medium"
    assert engine.describe()["loaded"] == ["medium"]
    assert engine.describe()["device"] == "cpu"
    with pytest.raises(StopIteration) as done:
        job.send(list(outputs_of(engine.run(phase))))
    assert done.value.value == alone
    assert engine.maintain(0) == ["load", "unload", "load", "unload", "load"]
    assert engine.maintain(0) == []


def test_the_least_recently_used_goes(folder: Path, ref: AudioRef) -> None:
    engine = Whisper(models=["medium", "english"], folder=str(folder), memory_mib=49)
    for name in ("medium", "tiny.en", "english"):
        transcribe(engine, ref, model=name, language="en")
    assert engine.describe()["loaded"] == ["tiny.en", "english"]


def test_a_step_begins_where_its_model_has_room(folder: Path) -> None:
    engine = Whisper("english", models=["medium"], folder=str(folder), resident=1)
    own, other = ("asr", "english", Decoding("en")), ("asr", "medium", Decoding("de"))
    assert engine.can_run_beside(own, [own, ("vad",)])
    assert not engine.can_run_beside(other, [("vad",), own])
    assert engine.can_run_beside(("vad",), [own])
    assert engine.can_run_beside(other, [("vad",)])


def test_a_model_goes_after_a_while_and_comes_back(folder: Path, ref: AudioRef) -> None:
    engine = Whisper(str(folder / "english"), keep_seconds=0)
    before = transcribe(engine, ref)
    assert "unload" in engine.maintain(1.0)
    assert engine.describe()["loaded"] == []
    assert engine.describe()["model"] == "english"
    assert transcribe(engine, ref) == before
    assert engine.maintain(0) == ["load", "unload"]


class Weights:
    def __init__(self, name: str) -> None:
        self.name = name
        self.usable = True

    def unload(self) -> None:
        self.usable = False


def test_models_in_use_stay_and_none_is_loaded_twice() -> None:
    loads: list[str] = []

    def load(name: str) -> Weights:
        loads.append(name)
        return Weights(name)

    cache = ModelCache(load, lambda _: 10, budget=20)
    names = ["a", "b", "c"]
    start = threading.Barrier(6)

    def use(turn: int) -> None:
        start.wait()
        for step in range(300):
            name = names[(turn * step) % 3]
            with cache.use(name) as weights:
                assert weights.name == name
                assert weights.usable
                assert sum(cache.loaded().values()) <= 20
                assert weights.usable

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(use, range(6)))
    events = cache.maintain()
    assert events.count("load") == len(loads)
    assert events.count("load") - events.count("unload") == len(cache.loaded()) <= 2

    loads.clear()
    cache = ModelCache(load, lambda _: 10)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(use, [3] * 6))  # all of them the same
    assert loads == ["a"]


def test_a_load_that_fails_leaves_no_trace() -> None:
    answers: Iterator[Any] = iter([OSError("gone"), Weights("a")])

    def load(_: str) -> Weights:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Weights)
        return answer

    cache = ModelCache(load, lambda _: 1, count=1)
    with pytest.raises(OSError, match="gone"), cache.use("a"):
        pass
    assert cache.loaded() == {}
    with cache.use("a") as weights:
        assert weights.name == "a"


def test_idle_models_go_when_the_device_is_full() -> None:
    """Sizes are estimates, and others use the device too."""

    def load(name: str) -> Weights:
        if cache.loaded():
            raise RuntimeError("CUDA failed with error out of memory")
        return Weights(name)

    cache = ModelCache(load, lambda _: 1)
    for name in ("a", "b"):
        with cache.use(name):
            pass
    assert list(cache.loaded()) == ["b"]
    with cache.use("b"), pytest.raises(RuntimeError), cache.use("a"):
        pass


def test_time_to_live() -> None:
    now = 0.0
    cache = ModelCache(Weights, lambda _: 1, keep=10, clock=lambda: now)
    with cache.use("a"):
        now = 100.0
        assert cache.maintain() == ["load"]  # in use
    now = 109.0
    assert cache.maintain() == []
    now = 110.0
    assert cache.maintain() == ["unload"]


# How it writes


def test_prompt_and_hotwords(engine: Whisper, call: Samples, tmp_path: Path) -> None:
    clip = call[6 * SAMPLE_RATE : 18 * SAMPLE_RATE]
    clip.tofile(tmp_path / "clip.f32")
    ref = AudioRef(str(tmp_path / "clip.f32"), clip.size)
    assert "Diane" in text(transcribe(engine, ref))
    assert "Dyanne" in text(transcribe(engine, ref, prompt="Dyanne, Dyanne, Dyanne"))
    assert "Dyanne" in text(transcribe(engine, ref, hotwords="Dyanne, Dyanne, Dyanne"))
    long = transcribe(engine, ref, prompt="Well, you know. " * 500, hotwords="New Jersey " * 500)
    assert "new jersey" in text(long).lower()


def test_a_prompt_is_plain_text_of_limited_length(engine: Whisper) -> None:
    with engine.cache.use("tiny.en") as recognizer:
        tokenizer = recognizer._tokenizer(Decoding("en"))

        def before(**said: str) -> list[int]:
            return recognizer._context(tokenizer, Decoding("en", **said))  # type: ignore[arg-type]

        assert before() == before(prompt=" ", hotwords="") == []
        assert before(prompt="b", hotwords="a") == [tokenizer.sot_prev, *tokenizer.encode(" a b")]
        for said in ({"prompt": "x " * 999}, {"hotwords": "x " * 999}, {"prompt": "x " * 999, "hotwords": "y " * 999}):
            assert len(before(**said)) == recognizer.model.max_length // 2
        assert before(prompt="x " * 999 + "end", hotwords="a")[-1:] == tokenizer.encode(" end")
        forged = before(prompt="<|endoftext|><|startoftranscript|> so <|notimestamps|>")
        assert tokenizer.decode(forged[1:]).strip() == "so"
        assert max(forged[1:]) < tokenizer.eot


def test_beam_and_temperature(ask: Ask, engine: Whisper, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    with engine.cache.use("tiny.en") as recognizer:
        inner = recognizer.model.model

        class Spy:
            def __getattr__(self, name: str) -> Any:
                return getattr(inner, name)

            def generate(self, *args: Any, **options: Any) -> Any:
                asked.append(options)
                return inner.generate(*args, **options)

        monkeypatch.setattr(recognizer.model, "model", Spy())
    assert ask(beam=5) == ask()
    assert len(ask(beam=1).words) > 5
    assert len(ask(temperature=0.4).words) > 5
    assert [options["beam_size"] for options in asked[:3]] == [5, 5, 1]
    assert asked[-1]["sampling_temperature"] == 0.4
    assert asked[-1]["sampling_topk"] == 0
    assert asked[-1]["beam_size"] == 1


def test_what_is_said_stays_out_of_the_logs(engine: Whisper, ref: AudioRef) -> None:
    job = engine.job(Transcribe(ref, prompt="my secret", hotwords="hush"))
    [item] = job.send(list(outputs_of(engine.run(next(job)))))
    assert "secret" not in repr(item.key)
    assert "hush" not in repr(item.key)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"language": "de"},
        {"language": "zh"},
        {"language": "zh", "translate": True},
        {"language": "ja", "prompt": "日本語", "hotwords": "東京"},
        {"translate": True},
        {"language": "th", "temperature": 1.0},
    ],
    ids=str,
)
def test_any_language(ask: Ask, options: dict[str, Any]) -> None:
    """Nonsense, but in words with times."""
    result = ask(model="medium", **options)
    assert result.language == options.get("language", result.language)
    assert result.language in LANGUAGES
    assert result.words
    assert all(0 <= word.start <= word.end <= 4 for word in result.words)


def test_languages_that_a_model_does_not_know(ask: Ask) -> None:
    for options, code in (
        ({"model": "medium", "language": "yue"}, "language_unavailable"),  # large-v3 knows it
        ({"model": "english", "language": "de"}, "language_unavailable"),
        ({"model": "medium", "language": "xx"}, "invalid_language"),
        ({"model": "english", "translate": True}, "translation_unavailable"),
    ):
        with pytest.raises(JobError) as refused:
            ask(**options)
        assert refused.value.code == code


def test_the_language_is_that_of_most_of_the_recording(
    engine: Whisper, ref: AudioRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A jingle at the start must not decide."""
    heard = iter([{"en": 0.6, "de": 0.3}, {"en": 0.1, "de": 0.8}, {"en": 0.2, "de": 0.7}])
    monkeypatch.setattr(Recognizer, "_odds", lambda self, encoded: [next(heard)])
    monkeypatch.setattr(Recognizer, "detect", lambda self, chunk: {"en": 0.5, "de": 0.5})
    part = Chunk(np.zeros(12 * SAMPLE_RATE, np.float32), ((0, 2 * SAMPLE_RATE),))
    monkeypatch.setattr("workers.whisper.vad.pack", lambda *_: [part] * 3)
    assert transcribe(engine, ref, model="medium").language == "de"


def test_translated_text_is_parted_as_english(engine: Whisper) -> None:
    with engine.cache.use("medium") as recognizer:
        tokens = recognizer.model.hf_tokenizer.encode(" unbelievable things", add_special_tokens=False).ids
        for task, words in (("translate", 2), ("transcribe", len(tokens))):
            parts, _ = recognizer._tokenizer(Decoding("zh", task)).split_to_word_tokens(tokens)
            assert len(parts) == words


# As on a GPU


@pytest.mark.parametrize("name", ["embedded", "medium"])
def test_a_whole_batch_at_once_gives_the_same_words(
    name: str, folder: Path, call: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of different lengths; one of them bears no words, and another is written again."""
    cuts = [call[14 * SAMPLE_RATE : 18 * SAMPLE_RATE], np.zeros(3 * SAMPLE_RATE, np.float32), call[-6 * SAMPLE_RATE :]]
    chunks = [Chunk(cut, ((0, cut.size),)) for cut in cuts]
    monkeypatch.setattr("workers.whisper.recognizer.repetitive", lambda text: "Jersey" in text or text.endswith("e"))

    def write(batched: bool) -> list[tuple[Word, ...]]:
        place = locate(name, str(folder))
        recognizer = Recognizer(place, "cpu", 0, "int8", threads=1, parallel=1, batched=batched)
        return [part.words for part in outputs_of(recognizer.write(chunks, Decoding("en")))]

    one_at_a_time = write(False)
    assert one_at_a_time == write(True)
    assert len(one_at_a_time) == 3
    assert one_at_a_time[0]


def test_what_does_not_fit_into_a_gpu_runs_beside_it(
    folder: Path, ref: AudioRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Whisper("english", folder=str(folder))
    job = engine.job(Transcribe(ref))
    items = job.send(list(outputs_of(engine.run(next(job)))))
    expected = outputs_of(engine.run(items))
    assert engine.fallback(items) is None  # it is the CPU already
    engine.on_cpu = engine._cache("cpu", 0, "int8", count=1, keep=0)

    def full(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA failed with error out of memory")

    with engine.cache.use("english") as recognizer:
        monkeypatch.setattr(recognizer, "_generate", full)
    with pytest.raises(RuntimeError) as error:
        outputs_of(engine.run(items))
    assert devices.out_of_memory(error.value)
    on_fallback = engine.fallback(items)
    assert on_fallback is not None
    assert list(outputs_of(on_fallback)) == list(expected)
    assert engine.describe()["loaded"] == ["english", "english (fallback)"]
    assert engine.fallback([WorkItem(("vad",), None)]) is None
    assert engine.maintain(0) == ["load", "load", "unload"]
    assert engine.describe()["loaded"] == ["english"]
