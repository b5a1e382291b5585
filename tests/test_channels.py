"""One speaker per channel: kept apart in decoding, transcribed without each other's echo, and suggested where it is
not asked for."""

from __future__ import annotations

import shutil
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from diarserve.transcript.channels import join_channels, turns_of
from tests.support.drive import drive
from tests.support.recordings import SHARED, decoded, sample
from tests.support.server import API, Server
from tests.support.waiting import wait_until
from workers.engine import JobError
from workers.media.decoder import Decoder
from workers.media.samples import Samples, load
from workers.messages import SAMPLE_RATE, AudioRef, Decode, Transcribe, Transcript, Word
from workers.whisper.engine import Whisper

shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no shared recordings")


def write(path: Path, channels: Sequence[Samples]) -> Path:
    """16-bit WAV at 16 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(np.stack(channels, 1), -1, 1) * 32767).astype("<i2").tobytes())
    return path


def decode(path: Path, *, separate: bool = False) -> AudioRef:
    target = path.parent / f"{path.stem}-{separate}.f32"
    audio = drive(Decoder(), Decode(str(path), str(target), 100.0, separate=separate))
    assert isinstance(audio, AudioRef)
    return audio


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kennedy for 11 s in the left channel, another voice in the right one, at first at the same time; each channel has
    a tenth of the other."""
    left, right = np.zeros((2, 17 * SAMPLE_RATE), np.float32)
    kennedy, other = decoded(SHARED / "jfk.flac"), decoded(SHARED / "hotwords.mp3")
    left[: kennedy.size] = kennedy
    for start in (2, 12):
        right[start * SAMPLE_RATE : start * SAMPLE_RATE + other.size] += other
    return write(tmp_path_factory.mktemp("call") / "call.wav", [left + 0.1 * right, right + 0.1 * left])


def copied(path: Path, folder: Path) -> Path:
    return Path(shutil.copy(path, folder))


# Decoding


@pytest.mark.parametrize("count", [2, 3, 8])
def test_channels_are_kept_apart(tmp_path: Path, count: int) -> None:
    tones = [
        np.sin(np.arange(2 * SAMPLE_RATE) * (0.02 + 0.01 * number)).astype(np.float32) * 0.5 for number in range(count)
    ]
    audio = decode(write(tmp_path / "tones.wav", tones), separate=True)
    assert (audio.samples, audio.channels, audio.duration) == (2 * SAMPLE_RATE, count, 2.0)
    for ref, tone in zip(audio.each(), tones, strict=True):
        assert np.abs(load(ref) - tone).max() < 1e-3
    mixed = decode(tmp_path / "tones.wav")
    assert (mixed.samples, mixed.channels) == (2 * SAMPLE_RATE, 1)
    assert np.abs(load(mixed) - np.mean(tones, axis=0)).max() < 1e-3


def test_one_channel_is_read_as_ever(tmp_path: Path) -> None:
    audio = decode(write(tmp_path / "mono.wav", [decoded(sample())]), separate=True)
    assert (audio.channels, audio.path) == (1, str(tmp_path / "mono.wav"))
    with pytest.raises(JobError):
        decode(write(tmp_path / "none.wav", [np.zeros(0, np.float32)] * 2), separate=True)


@shared
def test_different_people_in_the_channels_are_noticed(call: Path, tmp_path: Path) -> None:
    assert decode(call).independent
    assert decode(copied(SHARED / "stereo_diarization.wav", tmp_path)).independent
    speech = decoded(sample())
    noise = np.random.default_rng(0).normal(0, 0.002, speech.size).astype(np.float32)
    room = [speech + 0.6 * np.roll(speech, 11) + noise, 0.8 * np.roll(speech, 9) + 0.5 * np.roll(speech, 30)]
    for name, channels in {
        "mono": [speech, speech],
        "quieter": [speech, 0.3 * speech],
        "inverted": [speech, -speech],
        "one": [speech, noise],
        "room": room,
    }.items():
        assert not decode(write(tmp_path / f"{name}.wav", channels)).independent, name


# Transcribing


@shared
@pytest.mark.models
def test_each_channel_has_its_own_words_only(call: Path) -> None:
    channels = decode(call, separate=True).each()
    result = drive(Whisper(parallel=2), Transcribe(channels[0], channels=channels))
    assert isinstance(result, Transcript)
    left, right = ("".join(word.word for word in result.words if word.channel == channel) for channel in (0, 1))
    assert "ask what you can do for your country" in left
    assert "folder" not in left.lower()
    assert right.lower().count("folder") >= 1
    assert "country" not in right
    assert [word.start for word in result.words] == sorted(word.start for word in result.words)


# The document


def test_people_who_speak_at_the_same_time_have_whole_segments() -> None:
    words = [
        Word(" One", 0.0, 0.4, 1),
        Word(" Yes.", 0.5, 0.9, 1, channel=1),
        Word(" two.", 0.6, 1.0, 1),
        Word(" Well.", 3.0, 3.3, 1, channel=1),
    ]
    turns = turns_of(words)
    joined = join_channels(words, turns, "en")
    assert [(part.id, part.speaker, part.channel, part.text, part.language) for part in joined.segments] == [
        (0, "SPEAKER_00", 0, "One two.", "en"),
        (1, "SPEAKER_01", 1, "Yes.", "en"),
        (2, "SPEAKER_01", 1, "Well.", "en"),
    ]
    assert [(turn.start, turn.end, turn.speaker) for turn in joined.turns] == [
        (0.0, 1.0, "SPEAKER_00"),
        (0.5, 0.9, "SPEAKER_01"),
        (3.0, 3.3, "SPEAKER_01"),
    ]
    one, two = joined.segments[0].words
    assert (one.overlap, two.overlap, two.other_speakers) == (False, True, ("SPEAKER_01",))
    assert joined.text == "One two. Yes. Well."
    assert join_channels([], [], "en").segments == ()


@shared
@pytest.mark.models
def test_known_voices_name_the_channels(server: Server, call: Path, tmp_path: Path) -> None:
    kennedy = write(tmp_path / "kennedy.wav", [decoded(SHARED / "jfk.flac")[: 8 * SAMPLE_RATE]])
    known = {"known_speaker_names": ["Kennedy"], "speaker_embeddings": "true"}
    files = {"file": ("call.wav", call.read_bytes()), "known_speaker_references": ("k.wav", kennedy.read_bytes())}
    url, fields = f"{server.url}{API}", {"channels": "separate", **known}
    id = requests.post(f"{url}/transcribe/async", files=files, data=fields, timeout=100).json()["task_id"]
    wait_until(lambda: server.get(f"{API}/status/{id}")["status"]["status"] not in ("queued", "processing"), 100)
    document = server.get(f"{API}/result/{id}")
    assert document["speakers"] == ["Kennedy", "SPEAKER_01"]
    for segment in document["segments"]:
        speaker, other = ("Kennedy", "SPEAKER_01") if segment["channel"] == 0 else ("SPEAKER_01", "Kennedy")
        assert segment["speaker"] == speaker
        assert {name for word in segment["words"] for name in word["other_speakers"]} <= {other}
    assert [(one["diarized"], one["name"]) for one in document["speaker_matches"]] == [
        ("SPEAKER_00", "Kennedy"),
        ("SPEAKER_01", None),
    ]
    assert [one["speaker"] for one in document["speaker_embeddings"]] == ["Kennedy", "SPEAKER_01"]
    assert document["warnings"] == []
    for name, said in {
        "srt": "SPEAKER_01:",
        "vtt": "<v Kennedy>",
        "rttm": "SPEAKER call 2 ",
        "ctm": "call 2 ",
        "stm": "call 2 SPEAKER_01",
    }.items():
        assert said in requests.get(f"{url}/result/{id}", params={"format": name}, timeout=100).text, name


@shared
@pytest.mark.models
def test_a_call_over_http(server: Server, call: Path, sample: Path) -> None:
    def post(path: str, recording: Path, **fields: str) -> Any:
        files = {"file": ("call.wav", recording.read_bytes())}
        answer = requests.post(server.url + path, files=files, data=fields, timeout=100)
        assert answer.ok, answer.text
        return answer

    document = post(f"{API}/transcribe", call, channels="separate").json()
    assert document["speakers"] == ["SPEAKER_00", "SPEAKER_01"]
    assert {(segment["speaker"], segment["channel"]) for segment in document["segments"]} == {
        ("SPEAKER_00", 0),
        ("SPEAKER_01", 1),
    }
    assert document["models"]["diarization"] == "channels"
    assert document["duration"] == 17.0
    performance = document["performance"]
    assert performance["diarization_time"] == 0
    assert 0 < performance["transcription_time"] <= performance["processing_time"]
    assert document["warnings"] == []
    diarized = post("/v1/audio/transcriptions", call, channels="separate", response_format="diarized_json").json()
    assert {segment["speaker"] for segment in diarized["segments"]} == {"A", "B"}
    [suggested] = post(f"{API}/transcribe", call).json()["warnings"]
    assert "channels=separate" in suggested
    mono = post(f"{API}/transcribe", sample, channels="separate").json()
    [ignored] = mono["warnings"]
    assert "one channel" in ignored
    assert len(mono["speakers"]) == 2
    assert all("channel" not in segment for segment in mono["segments"])
