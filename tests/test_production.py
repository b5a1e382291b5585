"""The production engines over HTTP, in a server of their own: real architectures with random weights, saved as the
real files and loaded by the real loaders. What they say is nonsense; that they say it, and who said it, is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from diarserve.client import Client, Correction, Final
from tests.support.models.htdemucs import htdemucs
from tests.support.models.sortformer import sortformer
from tests.support.models.titanet import titanet
from tests.support.models.wav2vec2 import wav2vec2
from tests.support.models.whisper import whisper
from tests.support.server import API, Server, configured

pytestmark = [pytest.mark.models, pytest.mark.timeout(600)]  # five engines import their libraries on two cores

CONFIG = """
embedded = false

[decode]
engine = "decoder"

[whisper]
engine = "whisper"
model = "embedded"
models = ["{whisper}", "medium.en"]
resident = 1
parallel = 2

[sortformer]
engine = "sortformer"
model = "{sortformer}"
live = true
max_seconds = 40

[clustering]
engine = "cascade"
embedding = "{titanet}"

[align]
engine = "ctc-align"
model = "{wav2vec2}"

[separate]
engine = "demucs"
model = "{htdemucs}"
"""


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    models = {
        "whisper": whisper(folder / "random-multilingual", multilingual=True),
        "sortformer": sortformer(folder, streaming=True),
        "titanet": titanet(folder),
        "wav2vec2": wav2vec2(folder / "wav2vec2"),
        "htdemucs": htdemucs(folder / "htdemucs"),
    }
    with configured(CONFIG.format(**models), {"HF_HUB_OFFLINE": "1"}) as server:
        yield server


def ask(server: Server, path: Path, **fields: str) -> requests.Response:
    with path.open("rb") as file:
        return requests.post(f"{server.url}{API}/transcribe", files={"file": file}, data=fields, timeout=300)


def answer(server: Server, path: Path, **fields: str) -> dict[str, Any]:
    response = ask(server, path, **fields)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def events(server: Server, event: str) -> float:
    families = text_string_to_metric_families(requests.get(server.url + "/metrics", timeout=10).text)
    samples = [sample for family in families for sample in family.samples]
    return sum(
        sample.value
        for sample in samples
        if sample.name == "diarserve_model_events_total" and sample.labels == {"lane": "whisper", "event": event}
    )


def test_a_short_recording_goes_to_sortformer(production: Server, sample: Path) -> None:
    document = answer(production, sample)
    assert document["models"]["whisper"] == "tiny.en"
    assert document["models"]["diarization"] == "diar_streaming_sortformer"
    assert "Diane in New Jersey" in document["text"]
    assert document["turns"]


def test_sortformer_follows_live_audio(production: Server, sample: Path) -> None:
    pcm = sample.read_bytes()[44 + 6 * 32_000 :][: 12 * 32_000]
    speakers: list[str] = []
    with Client(production.url) as client:
        for event in client.stream([pcm], sample_rate=16_000, interim=False, keep=False):
            if isinstance(event, Final):
                speakers += [word.speaker for word in event.words]
            elif isinstance(event, Correction):
                speakers[event.first : event.past] = [event.speaker] * (event.past - event.first)
    assert len(speakers) > 5
    assert {"SPEAKER_00", "SPEAKER_01", "SPEAKER_02", "SPEAKER_03"}.issuperset(speakers)


def test_many_speakers_or_a_wish_lead_to_clustering(production: Server, sample: Path) -> None:
    for fields in ({"num_speakers": "5"}, {"diarizer": "clustering", "num_speakers": "2"}):
        document = answer(production, sample, **fields)
        assert document["models"]["diarization"] == "titanet"
        assert 0 < len({turn["speaker"] for turn in document["turns"]}) <= int(fields["num_speakers"])


def test_more_speakers_than_sortformer_knows_are_refused(production: Server, sample: Path) -> None:
    refused = ask(production, sample, diarizer="sortformer", num_speakers="5")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "too_many_speakers")
    assert "clustering" in refused.json()["error"]["message"]


def test_separation_and_forced_alignment_say_which_models_ran(production: Server, sample: Path) -> None:
    document = answer(production, sample, source_separation="true", enhanced_alignment="true")
    assert document["models"]["source_separation"] == "htdemucs"
    plain = answer(production, sample, enhanced_alignment="true")
    assert plain["models"]["alignment"] == "wav2vec2"
    words = [word for segment in plain["segments"] for word in segment["words"]]
    assert [word["start"] for word in words] == sorted(word["start"] for word in words)
    assert all(0 <= word["start"] <= word["end"] <= plain["duration"] for word in words)


def test_two_whisper_models_in_turn_with_room_for_one(production: Server, sample: Path) -> None:
    before = events(production, "unload")
    there = features(production)["models"]["whisper"]
    assert set(there["models"]) == {"tiny.en", "random-multilingual", "medium.en"}
    for name, language in (("random-multilingual", "de"), ("tiny.en", "en"), ("random-multilingual", "fr")):
        document = answer(production, sample, whisper_model=name, language=language)
        assert (document["models"]["whisper"], document["language"]) == (name, language)
        assert features(production)["models"]["whisper"]["loaded"] == [name]
    assert events(production, "unload") - before >= 2


def test_a_language_is_detected(production: Server, sample: Path) -> None:
    document = answer(production, sample, whisper_model="random-multilingual")
    assert len(document["language"]) in (2, 3)


@pytest.mark.parametrize("name", ["medium.en", "small", "nonsense"])
def test_a_whisper_model_that_is_not_to_be_had_is_named_with_what_is(
    production: Server, sample: Path, name: str
) -> None:
    refused = ask(production, sample, whisper_model=name)  # the first is on the list, but nowhere to be found
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "model_unavailable")
    assert "tiny.en" in refused.json()["error"]["message"]


def test_what_a_decoder_can_be_told_is_passed_on(production: Server, sample: Path) -> None:
    document = answer(production, sample, prompt="A telephone call.", hotwords="Diane", beam_size="1")
    assert "Diane" in document["text"]
    warmer = answer(production, sample, temperature="0.4")
    assert warmer["text"]


def features(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(requests.get(f"{server.url}{API}/features", timeout=10).text)
    return found
