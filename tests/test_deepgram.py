"""Deepgram's own package against a server on the real models, and what needs no model against stand-ins."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from msgspec import UNSET
from msgspec.structs import replace
from multidict import MultiDict

from diarserve.core.errors import InvalidRequest
from diarserve.http.deepgram.options import RecordingParameters, read
from diarserve.http.deepgram.shapes import answer
from tests.support import deepgram_client
from tests.support.app import Start, spool, stand_ins, wav
from tests.support.documents import document
from tests.support.server import Server
from tests.support.serving import serving

WAV = {"Content-Type": "audio/wav"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(stand_ins(tmp_path_factory.mktemp("deepgram"))) as address:
        yield f"{address}/v1/listen"


@pytest.mark.timeout(300)
def test_the_official_client_gets_words_with_speakers(server: Server, sample: Path) -> None:
    with deepgram_client.connected(server.url) as client:
        heard = client.listen.v1.media.transcribe_file(
            request=sample.read_bytes(),
            model="nova-3",
            diarize=True,
            smart_format=True,
            utterances=True,
            language="en-US",
            keyterm=["Chicago"],
        )
    from deepgram.types.listen_v1response import ListenV1Response

    ListenV1Response.model_validate(heard.model_dump())  # the package does not validate what comes
    assert heard.metadata.sha256 == hashlib.sha256(sample.read_bytes()).hexdigest()
    assert heard.metadata.duration == pytest.approx(30, abs=0.1)
    [channel] = heard.results.channels
    [best] = channel.alternatives
    assert "originally from Chicago" in best.transcript
    assert {word.speaker for word in best.words} == {0, 1}
    assert best.words[0].speaker == 0
    assert all(0 <= word.speaker_confidence <= 1 for word in best.words)
    assert best.paragraphs.transcript.startswith("\nSpeaker 0: ")
    assert " ".join(part.transcript for part in heard.results.utterances) == best.transcript
    assert [word.word for part in heard.results.utterances for word in part.words] == [w.word for w in best.words]


def test_speakers_punctuation_and_parts_are_there_only_when_they_are_asked_for() -> None:
    said = document(("Hello, Ann!", "SPEAKER_01"), ("How are you?", "SPEAKER_00"), ("Well.", "UNKNOWN"))

    def shaped(query: str) -> Any:
        pairs = [pair.split("=") for pair in query.split("&") if pair]
        asked, warned = read(RecordingParameters, MultiDict((name, value) for name, value in pairs))
        return answer(said, asked, "id", "sum", warned)

    bare = shaped("").results
    [plain] = bare.channels[0].alternatives
    assert plain.transcript == "hello ann how are you well"
    assert (plain.paragraphs, bare.utterances) == (UNSET, UNSET)
    assert {word.speaker for word in plain.words} == {UNSET}

    rich = shaped("diarize=true&paragraphs=true&utterances=true").results
    [full] = rich.channels[0].alternatives
    assert full.transcript == "Hello, Ann! How are you? Well."
    assert [word.speaker for word in full.words] == [0, 0, 1, 1, 1, UNSET]
    assert full.words[1].word == "ann"
    assert full.words[1].punctuated_word == "Ann!"
    assert full.paragraphs.transcript == "\nSpeaker 0: Hello, Ann!\n\nSpeaker 1: How are you?\n\nWell."
    assert [part.transcript for part in rich.utterances] == ["Hello, Ann!", "How are you?", "Well."]
    assert [part.speaker for part in rich.utterances] == [0, 1, UNSET]

    first, second, third = said.segments
    parts = (replace(first, channel=1), replace(second, channel=0), replace(third, channel=1))
    separate = replace(said, segments=parts)
    asked, _ = read(RecordingParameters, MultiDict(multichannel="true", utterances="true", punctuate="true"))
    both: Any = answer(separate, asked, "id", "sum", []).results
    assert [one.alternatives[0].transcript for one in both.channels] == ["How are you?", "Hello, Ann! Well."]
    assert [part.channel for part in both.utterances] == [1, 0, 1]

    assert shaped("detect_language=true").results.channels[0].detected_language == "en"
    assert [one.parameter for one in shaped("summarize=v2&topics=false").metadata.warnings] == ["summarize"]


@pytest.mark.parametrize(
    ("query", "ours"),
    [
        ({"model": "nova-3-general", "language": "en-GB"}, {"language": "en"}),
        ({"model": "whisper-large", "language": "multi"}, {"whisper_model": "large"}),
        ({"multichannel": "true"}, {"channels": "separate"}),
        ({"keywords": "Ann:2", "keyterm": "Bob"}, {"hotwords": "Bob, Ann"}),
        ({"detect_language": "true", "language": "en", "whatever": "1"}, {}),
    ],
)
def test_parameters_become_our_options(query: dict[str, str], ours: dict[str, str]) -> None:
    asked, warned = read(RecordingParameters, MultiDict(query))
    assert asked.ours().model_dump(exclude_defaults=True) == ours
    assert warned == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("redact=pci", "redact"),
        ("replace=a:b", "replace"),
        ("callback=https://example.org", "callback"),
        ("diarize=perhaps", "diarize"),
        ("utt_split=0", "utt_split"),
        (f"keyterm={'x' * 2001}", "keyterm"),
    ],
)
def test_a_parameter_that_cannot_be_honoured_is_named(url: str, query: str, param: str) -> None:
    refused = requests.post(f"{url}?{query}", data=wav(1), headers={**WAV, "X-Request-ID": "mine-1"}, timeout=30)
    assert refused.status_code == 400
    said = refused.json()
    assert (said["err_code"], said["request_id"], said["param"]) == ("Bad Request", "mine-1", param)
    assert said["err_msg"]


def test_false_parameters_are_as_good_as_none() -> None:
    read(RecordingParameters, MultiDict(redact="false", multichannel="false", profanity_filter=""))
    with pytest.raises(InvalidRequest):
        read(RecordingParameters, MultiDict([("redact", "false"), ("redact", "pci")]))


def test_bodies_that_are_no_recording_are_refused(url: str) -> None:
    fetched = requests.post(url, json={"url": "https://example.org/a.wav"}, timeout=30)
    assert (fetched.status_code, fetched.json()["code"], fetched.json()["param"]) == (400, "url_not_supported", "url")
    for data, status in ((b"", 400), (b"no recording", 415), (wav(1, "refuse whisper"), 422)):
        refused = requests.post(url, data=data, headers=WAV, timeout=30)
        assert refused.status_code == status
        assert refused.json()["err_msg"]


async def test_nothing_stays_behind(start: Start) -> None:
    client = await start()
    for order in ("", "refuse whisper", "raise whisper"):
        await client.post("/v1/listen", data=wav(1, order), headers=WAV)
        assert spool(client) == []


async def test_a_key_is_needed_where_there_are_keys_and_deepgrams_scheme_is_understood(start: Start) -> None:
    key = f"dsk_{'k' * 43}"
    client = await start(access={"keys": [{"name": "one", "role": "submit", "key": key}]})
    refused = await client.post("/v1/listen", data=wav(1), headers=WAV)
    assert (refused.status, (await refused.json())["err_code"]) == (401, "INVALID_AUTH")
    heard = await client.post("/v1/listen", data=wav(1), headers={**WAV, "Authorization": f"Token {key}"})
    assert heard.status == 200
