"""OpenAI's own package against a server on the real models: whatever it parses, its own types hold. What needs no model
is asked of stand-ins."""

from __future__ import annotations

import base64
import io
import re
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import requests
import srt  # type: ignore[import-untyped]
import webvtt
from openai.types.audio import (
    Transcription,
    TranscriptionDiarized,
    TranscriptionDiarizedSegment,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionTextSegmentEvent,
    TranscriptionVerbose,
)

from diarserve.http.openai.options import our_model, read
from tests.support.app import stand_ins, wav
from tests.support.recordings import decoded
from tests.support.server import Server
from tests.support.serving import serving
from workers.messages import SAMPLE_RATE

pytestmark = pytest.mark.timeout(300)

SAID = "originally from Chicago"


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def strict(answer: Any) -> None:
    """The package's clients never validate what comes, so that is done here."""
    type(answer).model_validate(answer.model_dump())


def transcribe(client: openai.OpenAI, sample: Path | tuple[str, bytes, str], **options: Any) -> Any:
    return client.audio.transcriptions.create(file=sample, **{"model": "whisper-1", **options})


def test_json(client: openai.OpenAI, sample: Path) -> None:
    answer = transcribe(client, sample, language="en")
    assert isinstance(answer, Transcription)
    strict(answer)
    assert SAID in answer.text
    assert answer.usage is not None
    assert answer.usage.type == "duration"
    assert answer.usage.seconds == 30


def test_text(client: openai.OpenAI, sample: Path) -> None:
    answer = transcribe(client, sample, response_format="text")
    assert isinstance(answer, str)
    assert SAID in answer
    assert not answer.startswith("{")


def test_subtitles(client: openai.OpenAI, sample: Path) -> None:
    subtitles = list(srt.parse(transcribe(client, sample, response_format="srt")))
    assert any(SAID in subtitle.content for subtitle in subtitles)
    captions = webvtt.from_string(transcribe(client, sample, response_format="vtt")).captions
    assert any(SAID in caption.text for caption in captions)
    assert {caption.voice for caption in captions} == {"SPEAKER_00", "SPEAKER_01"}


def test_verbose_json(client: openai.OpenAI, sample: Path) -> None:
    answer = transcribe(client, sample, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert isinstance(answer, TranscriptionVerbose)
    strict(answer)
    assert answer.language == "english"
    assert answer.duration == 30.0
    assert answer.segments
    assert answer.words
    assert SAID in answer.text
    assert " ".join(segment.text for segment in answer.segments) == answer.text
    assert " ".join(word.word for word in answer.words) == answer.text


def test_verbose_json_has_segments_alone_unless_words_are_asked_for(client: openai.OpenAI, sample: Path) -> None:
    answer = transcribe(client, sample, response_format="verbose_json")
    assert answer.segments
    assert answer.words is None


def test_diarized_json(client: openai.OpenAI, sample: Path) -> None:
    answer = transcribe(
        client, sample, model="gpt-4o-transcribe-diarize", response_format="diarized_json", chunking_strategy="auto"
    )
    assert isinstance(answer, TranscriptionDiarized)
    strict(answer)
    assert {segment.speaker for segment in answer.segments} == {"A", "B"}
    assert " ".join(segment.text for segment in answer.segments) == answer.text


def cut(sample: Path, start: float, end: float) -> bytes:
    """A WAV file of a part of the call."""
    call, part = decoded(sample), io.BytesIO()
    with wave.open(part, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((call[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] * 32767).astype("<i2").tobytes())
    return part.getvalue()


def reference(sample: Path, start: float, end: float) -> str:
    return f"data:audio/wav;base64,{base64.b64encode(cut(sample, start, end)).decode()}"


def test_known_speakers(client: openai.OpenAI, sample: Path) -> None:
    """As OpenAI has it: who is known has the name, the others have letters. What they say in the references, they do
    not say in the recording."""
    options: dict[str, Any] = {"response_format": "diarized_json", "model": "gpt-4o-transcribe-diarize"}
    one, other = reference(sample, 10.6, 14.4), reference(sample, 21.9, 27.8)
    call = ("call.wav", cut(sample, 14.5, 21.7), "audio/wav")
    both = transcribe(
        client, call, **options, known_speaker_names=["agent", "customer"], known_speaker_references=[one, other]
    )
    assert {segment.speaker for segment in both.segments} == {"agent", "customer"}
    strict(both)
    alone = ("call.wav", cut(sample, 21.9, 27.8), "audio/wav")
    absent = transcribe(client, alone, **options, known_speaker_names=["agent"], known_speaker_references=[one])
    assert {segment.speaker for segment in absent.segments} == {"A"}
    *events, _ = transcribe(
        client, alone, **options, known_speaker_names=["customer"], known_speaker_references=[other], stream=True
    )
    segments = [event for event in events if isinstance(event, TranscriptionTextSegmentEvent)]
    assert {segment.speaker for segment in segments} == {"customer"}
    long = [reference(sample, 10, 22)]
    with pytest.raises(openai.BadRequestError, match="lasts 12") as refusal:
        transcribe(client, alone, **options, known_speaker_names=["agent"], known_speaker_references=long)
    assert (refusal.value.param, refusal.value.code) == ("known_speaker_references", "reference_length")


def test_a_stream(client: openai.OpenAI, sample: Path) -> None:
    *deltas, done = transcribe(client, sample, stream=True)
    assert all(isinstance(delta, TranscriptionTextDeltaEvent) for delta in deltas)
    assert isinstance(done, TranscriptionTextDoneEvent)
    for event in (*deltas, done):
        strict(event)
    assert deltas[0].delta.endswith((".", "?"))  # a sentence each; the first while Whisper writes the rest
    assert len(deltas) >= 8
    heard = "".join(delta.delta for delta in deltas)
    assert SAID in heard
    # Listening again to what was passed over may add words that were not streamed.
    assert len(set(heard.split()) & set(done.text.split())) > 0.8 * len(set(done.text.split()))


def plain(text: str) -> str:
    return re.sub(r"[^a-z0-9' ]", "", text.lower())


def test_a_diarized_stream(client: openai.OpenAI, sample: Path) -> None:
    *events, done = transcribe(client, sample, stream=True, response_format="diarized_json")
    for event in (*events, done):
        strict(event)
    assert isinstance(done, TranscriptionTextDoneEvent)
    segments = [event for event in events if isinstance(event, TranscriptionTextSegmentEvent)]
    assert {segment.speaker for segment in segments} == {"A", "B"}
    assert " ".join(segment.text for segment in segments) == done.text
    whole = transcribe(client, sample, response_format="diarized_json")
    # Sentences that are told early are written by a search of their own, which may set another comma.
    assert [(segment.speaker, plain(segment.text)) for segment in segments] == [
        (segment.speaker, plain(segment.text)) for segment in whole.segments
    ]
    assert isinstance(whole.segments[0], TranscriptionDiarizedSegment)


def test_models(client: openai.OpenAI, sample: Path) -> None:
    model, *_ = client.models.list()
    strict(model)
    assert model.id == "tiny.en"
    assert SAID in transcribe(client, sample, model=model.id).text


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the package says so of its whisper-1
def test_a_translation_that_the_model_cannot_make(client: openai.OpenAI, sample: Path) -> None:
    with pytest.raises(openai.BadRequestError, match="cannot translate") as refusal:
        client.audio.translations.create(file=sample, model="tiny.en")
    assert (refusal.value.code, refusal.value.param) == ("translation_unavailable", "model")
    assert refusal.value.type == "invalid_request_error"


def test_a_file_that_is_no_recording(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="not a recording") as refusal:
        client.audio.transcriptions.create(file=("notes.wav", b"These are words."), model="whisper-1")
    assert (refusal.value.status_code, refusal.value.code) == (415, "unsupported_media")


def test_a_stream_of_a_file_that_cannot_be_decoded(client: openai.OpenAI, sample: Path) -> None:
    cut = sample.read_bytes()[:50_000]
    with pytest.raises(openai.APIError, match="cut off"):
        list(client.audio.transcriptions.create(file=("cut.wav", cut), model="whisper-1", stream=True))


def test_a_parameter_that_is_wrong(client: openai.OpenAI, sample: Path) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        transcribe(client, sample, temperature=7)
    assert refusal.value.param == "temperature"


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """A client of stand-ins, whose recogniser has the models tiny.en and large-v3."""
    limits = {"models": ["tiny.en", "large-v3"], "accepts": ["tiny.en", "large-v3", "acme/whisper-large-v3-x"]}
    settings = stand_ins(tmp_path_factory.mktemp("openai"), whisper={"limits": limits})
    with serving(settings) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


def ask(client: openai.OpenAI, seconds: int = 2, **options: Any) -> Any:
    return client.audio.transcriptions.create(file=("a.wav", wav(seconds)), **{"model": "whisper-1", **options})


def warnings(answer: Any) -> list[str]:
    return answer.model_dump().get("warnings", [])  # type: ignore[no-any-return]


def test_chunks_as_the_client_wants_them(quick: openai.OpenAI) -> None:
    assert warnings(ask(quick, chunking_strategy="auto")) == []
    assert warnings(ask(quick, chunking_strategy={"type": "server_vad"})) == []
    answer = ask(quick, chunking_strategy={"type": "server_vad", "threshold": 0.4})
    assert answer.text == "w0 w1"
    assert warnings(answer) == ["chunking_strategy[threshold] is not available here and was ignored"]


def test_a_model_by_its_id(quick: openai.OpenAI) -> None:
    assert [model.id for model in quick.models.list()] == ["tiny.en", "large-v3"]
    for name in (
        "tiny.en",
        "whisper-1",
        "gpt-4o-mini-transcribe",
        "openai/whisper-large-v3",
        "acme/whisper-large-v3-x",
    ):
        model = quick.models.retrieve(name)
        strict(model)
        assert model.id == name
    with pytest.raises(
        openai.NotFoundError, match=r"'acme/none' does not exist; there is: tiny\.en, large-v3"
    ) as refusal:
        quick.models.retrieve("acme/none")
    assert (refusal.value.code, refusal.value.param) == ("model_not_found", "model")
    assert refusal.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("whisper-1", None),
        ("gpt-4o-transcribe-diarize", None),
        ("gpt-4o-mini-transcribe-2025-12-15", None),
        ("Systran/faster-whisper-tiny.en", "tiny.en"),
        ("Systran/faster-distil-whisper-large-v3", "distil-large-v3"),
        ("openai/whisper-large-v3", "large-v3"),
        ("whisper-large-v3-turbo", "large-v3-turbo"),
        ("mobiuslabsgmbh/faster-whisper-large-v3-turbo", "large-v3-turbo"),
        ("deepdml/faster-whisper-large-v3-turbo-ct2", "large-v3-turbo"),
        ("distil-whisper/distil-large-v3.5-ct2", "distil-large-v3.5"),
        ("distil-whisper/distil-large-v2", "distil-large-v2"),
        ("large-v3", "large-v3"),
        ("turbo", "turbo"),
        ("acme/whisper-large-v3", "acme/whisper-large-v3"),  # somebody's own model
        ("whisper-large-v3-x", "whisper-large-v3-x"),  # accepted by that name
        ("nonsense", "nonsense"),
    ],
)
def test_names_of_models(name: str, ours: str | None) -> None:
    assert our_model(name, ["whisper-large-v3-x"]) == ours


@pytest.mark.parametrize("name", ["Systran/faster-whisper-tiny.en", "openai/whisper-large-v3", "whisper-large-v3"])
def test_a_model_by_its_name_on_the_hub(quick: openai.OpenAI, name: str) -> None:
    assert ask(quick, model=name).text == "w0 w1"


def test_a_model_that_is_not_there_is_named_as_the_client_named_it(quick: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"'whisper-9'.*there is: tiny\.en, large-v3") as refusal:
        ask(quick, model="whisper-9")
    assert (refusal.value.code, refusal.value.param) == ("model_unavailable", "model")
    assert "whisper_model" not in str(refusal.value)
    with pytest.raises(openai.BadRequestError) as refusal:
        ask(quick, model="x" * 1000)
    assert refusal.value.param == "model"


def test_fields_that_others_have_are_honoured_or_said(quick: openai.OpenAI) -> None:
    extra = {"seed": 7, "top_p": 0.5, "user": "me", "vad_filter": True, "colour": "blue"}
    answer = ask(quick, extra_body={**extra, "hotwords": "Chicago", "num_speakers": 2, "min_speakers": 1})
    assert answer.text == "w0 w1"
    assert warnings(answer) == [f"{name} is not available here and was ignored" for name in extra]
    *_, done = ask(quick, extra_body=extra, stream=True)
    strict(done)
    assert warnings(done) == warnings(answer)
    with pytest.raises(openai.BadRequestError) as refusal:
        ask(quick, extra_body={"num_speakers": 0})
    assert refusal.value.param == "num_speakers"
    with pytest.raises(openai.BadRequestError, match="min_speakers must not be above max_speakers"):
        ask(quick, extra_body={"min_speakers": 3, "max_speakers": 2})


def test_what_fields_of_a_form_become() -> None:
    options, ignored = read(
        {
            "model": ["openai/whisper-tiny"],
            "keywords[]": ["Chicago", "Noor"],
            "languages[]": ["en"],
            "max_speakers": ["3"],
            "num_speakers": [""],
            "stream": [""],
        }
    )
    ours = options.ours()
    assert (ours.whisper_model, ours.hotwords, ours.language) == ("tiny", "Chicago, Noor", "en")
    assert (ours.max_speakers, ours.num_speakers, options.stream, ignored) == (3, None, False, [])
    options, ignored = read({"languages[]": ["en", "de"], "include[]": ["logprobs"], "hotwords": ["Noor"]})
    assert (options.ours().language, options.ours().hotwords) == (None, "Noor")
    assert [warning.split()[0] for warning in ignored] == ["include", "languages"]


def test_granularities_without_brackets(quick: openai.OpenAI) -> None:
    """As some clients send them."""
    url = f"{quick.base_url}audio/transcriptions"
    fields = [("response_format", "verbose_json"), *(("timestamp_granularities", name) for name in ("word", "segment"))]
    answer = requests.post(url, data=fields, files={"file": wav(1)}, timeout=30).json()
    assert [word["word"] for word in answer["words"]] == ["w0"]
    assert len(answer["segments"]) == 1


def test_every_answer_has_an_id(quick: openai.OpenAI) -> None:
    url = str(quick.base_url).removesuffix("v1/")
    ids = {requests.get(url + path, timeout=30).headers["X-Request-ID"] for path in ("livez", "v1/models", "nowhere")}
    assert len(ids) == 3
    assert ask(quick)._request_id not in ids
    assert quick.models.with_raw_response.list(extra_headers={"X-Request-ID": "mine-1"}).request_id == "mine-1"
    odd = requests.get(f"{url}livez", headers={"X-Request-ID": "a b"}, timeout=30).headers["X-Request-ID"]
    assert odd != "a b"
    with requests.post(
        f"{url}v1/audio/transcriptions", files={"file": wav(1)}, data={"stream": "true"}, stream=True, timeout=30
    ) as streamed:
        assert streamed.headers["X-Request-ID"]
