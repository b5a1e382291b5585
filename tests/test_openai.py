"""OpenAI's own package against a server on the real models: whatever it parses, its own types hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
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

from tests.support.server import Server

pytestmark = pytest.mark.timeout(300)

SAID = "originally from Chicago"


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def strict(answer: Any) -> None:
    """The package's clients never validate what comes, so that is done here."""
    type(answer).model_validate(answer.model_dump())


def transcribe(client: openai.OpenAI, sample: Path, **options: Any) -> Any:
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


def test_a_stream(client: openai.OpenAI, sample: Path) -> None:
    *deltas, done = transcribe(client, sample, stream=True)
    assert all(isinstance(delta, TranscriptionTextDeltaEvent) for delta in deltas)
    assert isinstance(done, TranscriptionTextDoneEvent)
    for event in (*deltas, done):
        strict(event)
    heard = "".join(delta.delta for delta in deltas)
    assert SAID in heard
    # Listening again to what was passed over may add words that were not streamed.
    assert len(set(heard.split()) & set(done.text.split())) > 0.8 * len(set(done.text.split()))


def test_a_diarized_stream(client: openai.OpenAI, sample: Path) -> None:
    *events, done = transcribe(client, sample, stream=True, response_format="diarized_json")
    for event in (*events, done):
        strict(event)
    assert isinstance(done, TranscriptionTextDoneEvent)
    segments = [event for event in events if isinstance(event, TranscriptionTextSegmentEvent)]
    assert {segment.speaker for segment in segments} == {"A", "B"}
    assert " ".join(segment.text for segment in segments) == done.text
    whole = transcribe(client, sample, response_format="diarized_json")
    assert [segment.model_dump() for segment in segments] == [segment.model_dump() for segment in whole.segments]
    assert isinstance(whole.segments[0], TranscriptionDiarizedSegment)


def test_models(client: openai.OpenAI, sample: Path) -> None:
    [model] = client.models.list()
    strict(model)
    assert model.id == "tiny.en"
    assert SAID in transcribe(client, sample, model=model.id).text


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the package says so of its whisper-1
def test_a_translation_that_the_model_cannot_make(client: openai.OpenAI, sample: Path) -> None:
    with pytest.raises(openai.BadRequestError, match="cannot translate") as refusal:
        client.audio.translations.create(file=sample, model="whisper-1")
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
