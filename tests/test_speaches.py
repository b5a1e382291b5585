"""`POST /v1/audio/diarization` as speaches has it: on the real models, and what needs none on stand-ins."""

from __future__ import annotations

import base64
import io
import json
import wave
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.app import Start, form, spool, wav
from tests.support.recordings import decoded
from tests.support.server import Server
from workers.messages import SAMPLE_RATE

PATH = "/v1/audio/diarization"


def ask(server: Server, sample: Path, **fields: Any) -> requests.Response:
    files = {"file": ("call one.wav", sample.read_bytes(), "audio/wav")}
    return requests.post(f"{server.url}{PATH}", data=fields, files=files, timeout=60)


@pytest.mark.timeout(300)
def test_turns_of_two_speakers(server: Server, sample: Path) -> None:
    found = ask(server, sample, model="pyannote/speaker-diarization-community-1").json()
    assert found["duration"] == 30.0
    assert {segment["speaker"] for segment in found["segments"]} == {"SPEAKER_00", "SPEAKER_01"}
    assert all(0 <= segment["start"] < segment["end"] <= 30.1 for segment in found["segments"])
    lines = [line.split() for line in ask(server, sample, response_format="rttm").text.splitlines()]
    assert [line[0] for line in lines] == ["SPEAKER"] * len(found["segments"])
    assert {line[1] for line in lines} == {"call_one"}
    assert [float(line[3]) for line in lines] == [segment["start"] for segment in found["segments"]]
    assert {line[7] for line in lines} == {"SPEAKER_00", "SPEAKER_01"}


@pytest.mark.timeout(300)
def test_known_speakers_are_called_by_name(server: Server, sample: Path) -> None:
    def reference(start: float, end: float) -> str:
        cut, file = decoded(sample)[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)], io.BytesIO()
        with wave.open(file, "wb") as made:
            made.setnchannels(1)
            made.setsampwidth(2)
            made.setframerate(SAMPLE_RATE)
            made.writeframes((cut * 32767).astype("<i2").tobytes())
        return f"data:audio/wav;base64,{base64.b64encode(file.getvalue()).decode()}"

    fields = {
        "known_speaker_names[]": ["agent", "customer"],
        "known_speaker_references[]": [reference(10.6, 14.4), reference(21.9, 27.8)],
    }
    found = ask(server, sample, **fields).json()
    assert {segment["speaker"] for segment in found["segments"]} == {"agent", "customer"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("asked", ["true", "false", None])
def test_segments_of_a_transcription_have_speakers_where_they_are_asked_for(
    server: Server, sample: Path, asked: str | None
) -> None:
    fields = {"model": "openai/whisper-tiny", "response_format": "verbose_json", "diarization": asked}
    files = {"file": ("call.wav", sample.read_bytes(), "audio/wav")}
    heard = requests.post(f"{server.url}/v1/audio/transcriptions", data=fields, files=files, timeout=60).json()
    speakers = {segment.get("speaker") for segment in heard["segments"]}
    assert speakers == ({"SPEAKER_00", "SPEAKER_01"} if asked == "true" else {None})


@pytest.mark.timeout(300)
def test_in_silence_nothing_is_said(server: Server) -> None:
    silence = {"file": ("silence.wav", wav(45), "audio/wav")}

    def transcribed(**fields: str) -> requests.Response:
        return requests.post(f"{server.url}/v1/audio/transcriptions", data=fields, files=silence, timeout=60)

    assert transcribed(response_format="json").json()["text"] == ""
    verbose = transcribed(response_format="verbose_json").json()
    assert (verbose["text"], verbose["segments"], "words" in verbose) == ("", [], False)
    [event] = [line for line in transcribed(stream="true").text.splitlines() if line.startswith("data: ")]
    assert json.loads(event.removeprefix("data: ")) == {"type": "transcript.text.done", "text": ""}
    found = requests.post(f"{server.url}{PATH}", files=silence, timeout=60).json()
    assert found == {"duration": 45.0, "segments": []}


async def test_whisper_does_not_run_and_nothing_stays_behind(start: Start) -> None:
    client = await start()
    found = await client.post(PATH, data=form(wav(2, "raise whisper"), model="m", response_format="", stream="no"))
    assert await found.json() == {
        "duration": 2.0,
        "segments": [
            {"start": 0.0, "end": 1.0, "speaker": "SPEAKER_00"},
            {"start": 1.0, "end": 2.0, "speaker": "SPEAKER_01"},
        ],
    }
    for order, status in (("refuse embedded", 422), ("raise embedded", 500)):
        assert (await client.post(PATH, data=form(wav(1, order)))).status == status
    assert spool(client) == []


async def test_what_is_wrong_is_named_in_openais_shape(start: Start) -> None:
    client = await start()
    for fields, param in (
        ({"response_format": "srt"}, "response_format"),
        ({"min_speakers": "0"}, "min_speakers"),
        ({"model": "sortformer"}, "diarizer"),
        ({"known_speaker_names[]": "Ann"}, "known_speaker_references"),
    ):
        refused = await client.post(PATH, data=form(wav(1), **fields))
        error = (await refused.json())["error"]
        assert (refused.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
