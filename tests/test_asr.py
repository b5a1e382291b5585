"""What clients of whisper-asr-webservice send (tests/support/exchanges: Bazarr, Speakr), against a server on the real
models, and what needs no model against stand-ins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import srt  # type: ignore[import-untyped]
import webvtt
from aiohttp import FormData
from multidict import MultiDict

from diarserve.core.errors import InvalidRequest
from diarserve.core.options import validate
from diarserve.core.settings import Subtitles
from diarserve.http.asr import errors as asr_errors
from diarserve.http.asr.options import AsrParameters, Encoded
from diarserve.http.asr.shapes import answer
from tests.support import exchanges
from tests.support.app import Start, spool, stand_ins, wav
from tests.support.documents import document
from tests.support.recordings import decoded
from tests.support.server import Server
from tests.support.serving import serving

pytestmark = pytest.mark.timeout(300)

PARAMETERS = {"file": "audio_file", "whisper_model": "model", "prompt": "initial_prompt", "hotwords": "hotwords"}
SAID = "originally from Chicago"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(stand_ins(tmp_path_factory.mktemp("asr"))) as address:
        yield address


def samples(sample: Path) -> bytes:
    """As Bazarr sends them: what ffmpeg writes with -f s16le -ac 1 -ar 16000."""
    return (decoded(sample) * 32767).astype("<i2").tobytes()


def test_bazarr_detects_the_language_and_gets_subtitles(server: Server, sample: Path) -> None:
    status, headers, body = exchanges.replay(server.url, "bazarr_detect_language", samples(sample))
    spoken = json.loads(body)
    assert (status, spoken["detected_language"], spoken["language_code"]) == (200, "english", "en")
    assert 0.5 < spoken["confidence"] <= 1
    status, headers, body = exchanges.replay(server.url, "bazarr_subtitles", samples(sample))
    assert status == 200
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["Content-Disposition"] == 'attachment; filename="audio_file.srt"'
    assert headers["Asr-Engine"] == "diarserve"
    subtitles = list(srt.parse(body.decode()))
    assert any(SAID in " ".join(subtitle.content.split()) for subtitle in subtitles)
    assert b"SPEAKER" not in body


def test_speakr_gets_segments_with_speakers(server: Server, sample: Path) -> None:
    status, _, body = exchanges.replay(server.url, "speakr_asr", sample.read_bytes())
    said = json.loads(body)
    assert status == 200
    assert {segment["speaker"] for segment in said["segments"]} == {"SPEAKER_00", "SPEAKER_01"}
    assert all(segment["start"] < segment["end"] and segment["text"] for segment in said["segments"])
    assert SAID in said["text"]
    assert said["language"] == "en"
    assert {name: np.shape(vector) for name, vector in said["speaker_embeddings"].items()} == {
        "SPEAKER_00": (192,),
        "SPEAKER_01": (192,),
    }
    models = requests.get(f"{server.url}/v1/models", timeout=30).json()  # which it offers to choose from
    assert models["data"][0]["owned_by"] == "diarserve"
    assert requests.get(server.url, timeout=30).status_code == 200  # that it is there, where no /health is


def shaped(**asked: Any) -> str:
    said = document(("Hello, Ann!", "SPEAKER_01"), ("1 < 2", "SPEAKER_00"), ("Well.", "UNKNOWN"))
    return answer(said, validate(AsrParameters, asked), Subtitles()).decode()


def test_every_output_with_speakers_and_without() -> None:
    assert shaped() == "Hello, Ann!\n1 < 2\nWell.\n"
    assert shaped(output="", diarize="true") == "[SPEAKER_01]: Hello, Ann!\n[SPEAKER_00]: 1 < 2\nWell.\n"
    assert shaped(output="tsv") == "start\tend\ttext\n0\t900\tHello, Ann!\n1900\t3300\t1 < 2\n4300\t4700\tWell.\n"
    subtitles = [one.content for one in srt.parse(shaped(output="srt", enable_diarization="1"))]
    assert subtitles == ["[SPEAKER_01]: Hello, Ann!", "[SPEAKER_00]: 1 < 2", "Well."]
    captions = [one.text for one in webvtt.from_string(shaped(output="vtt")).captions]
    assert captions == ["Hello, Ann!", "1 &lt; 2", "Well."]
    assert shaped(output="vtt", diarize="true").startswith("WEBVTT\n\n00:00:00.000 --> 00:00:00.900\n[SPEAKER_01]: H")


def test_words_and_speakers_are_in_json_only_when_they_are_asked_for(url: str) -> None:
    def segments(**params: str) -> Any:
        files = {"audio_file": ("a b.wav", wav(2))}
        heard = requests.post(f"{url}/asr", params={"output": "json", **params}, files=files, timeout=30)
        assert heard.headers["Content-Disposition"] == 'attachment; filename="a%20b.wav.json"'
        return heard.json()["segments"]

    bare = segments()[0]
    assert {"id", "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob", "no_speech_prob"} < set(bare)
    assert not {"speaker", "words"} & set(bare)
    whole = segments(word_timestamps="true", diarize="true")[0]
    assert whole["speaker"] == "SPEAKER_00"
    word = {"word": "w0", "start": 0.1, "end": 0.9, "probability": 1.0, "speaker": "SPEAKER_00"}
    assert whole["words"] == [word]


def test_parameters_become_our_options() -> None:
    asked = validate(
        AsrParameters,
        {"initial_prompt": "So", "language": "de", "min_speakers": "2", "model": "openai/whisper-base", "other": "1"},
    )
    assert asked.ours().model_dump(exclude_defaults=True) == {
        "prompt": "So",
        "language": "de",
        "whisper_model": "base",
    }
    asked = validate(AsrParameters, {"diarize": "true", "min_speakers": "2", "max_speakers": "", "encode": ""})
    assert asked.ours().model_dump(exclude_defaults=True) == {"min_speakers": 2}
    assert asked.encode
    with pytest.raises(InvalidRequest, match="output"):
        validate(AsrParameters, {"output": "docx"})
    assert not validate(Encoded, dict(MultiDict(encode="false"))).encode


@pytest.mark.parametrize("path", ["asr", "detect-language"])
def test_requests_that_are_wrong_are_refused(url: str, path: str) -> None:
    def refused(**request: Any) -> tuple[int, str, str | None]:
        answer = requests.post(f"{url}/{path}", timeout=30, **request)
        return answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"]

    assert refused() == (400, "invalid_request", "audio_file")
    assert refused(files={"file": wav(1)}) == (400, "invalid_request", "audio_file")
    assert refused(files={"audio_file": b""}) == (400, "empty_file", "audio_file")
    assert refused(files={"audio_file": b"no recording"}) == (415, "unsupported_media", "audio_file")
    assert refused(files={"audio_file": b""}, params={"encode": "0"}) == (400, "empty_file", "audio_file")
    assert refused(files={"audio_file": wav(1)}, params={"encode": "perhaps"})[::2] == (400, "encode")
    unreadable = wav(1, "refuse whisper")
    assert refused(files={"audio_file": unreadable})[::2] == (422, "audio_file")


def test_an_error_names_the_parameter_that_the_client_has_sent() -> None:
    told = [asr_errors.body(InvalidRequest("It is wrong.", param=ours))["error"]["param"] for ours in PARAMETERS]
    assert told == list(PARAMETERS.values())


def part(recording: bytes) -> FormData:
    made = FormData()
    made.add_field("audio_file", recording, filename="a.wav")
    return made


async def test_nothing_stays_behind(start: Start) -> None:
    client = await start()
    for path in ("/asr", "/detect-language?encode=false"):
        for order, status in (("", 200), ("refuse whisper", 422), ("raise whisper", 500)):
            answered = await client.post(path, data=part(wav(1, order)))
            assert answered.status == status
            assert spool(client) == []


async def test_samples_without_a_header_are_heard_like_a_file(start: Start) -> None:
    client = await start()
    heard = [
        await (await client.post(f"/asr?encode={encode}", data=part(data))).text()
        for encode, data in (("true", wav(3)), ("false", wav(3)), ("false", wav(3)[44:]))
    ]
    assert heard == ["w0\nw1\nw2\n"] * 3
    spoken = await (await client.post("/detect-language", data=part(wav(1)))).json()
    assert spoken == {"detected_language": "german", "language_code": "de", "confidence": 0.75}
