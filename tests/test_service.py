"""The whole product: a server process on the embedded models, real speech, over HTTP."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.support import recordings
from tests.support.paths import REPOSITORY
from tests.support.server import Server, running
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]


def post(server: Server, path: Path, **fields: str) -> requests.Response:
    with path.open("rb") as file:
        return requests.post(
            f"{server.url}/api/v1/parallel/transcribe", files={"file": (path.name, file)}, data=fields, timeout=200
        )


def plain(text: str) -> str:
    return re.sub(r"[^a-z ]", "", text.lower())


def check(document: dict[str, Any]) -> None:
    """What holds for every document."""
    assert document["status"] == "completed"
    speakers = {turn["speaker"] for turn in document["turns"]}
    last = 0.0
    for segment in document["segments"]:
        assert segment["speaker"] in document["speakers"]
        assert segment["words"]
        for word in segment["words"]:
            assert last - 0.5 <= word["start"] <= word["end"] <= document["duration"] + 0.1
            assert word["speaker"] in speakers | {"UNKNOWN"}
            last = word["start"]
    assert " ".join(segment["text"] for segment in document["segments"]) == document["text"]


def test_a_telephone_call_comes_back_as_two_speakers(server: Server, sample: Path) -> None:
    answer = post(server, sample, language="en", num_speakers="2")
    assert answer.status_code == 200
    document = answer.json()
    check(document)
    assert document["speakers"] == ["SPEAKER_00", "SPEAKER_01"]
    assert document["duration"] == 30.0
    said = {segment["speaker"]: "" for segment in document["segments"]}
    for segment in document["segments"]:
        said[segment["speaker"]] += plain(segment["text"]) + " "
    diane, sheila = sorted(said.values(), key=lambda text: "diane" not in text)
    assert "this is diane in new jersey" in diane
    assert "originally from chicago also" in diane
    assert "im sheila" in sheila
    assert "yankee down here" in sheila
    assert document["performance"]["speedup_estimate"] > 1


def test_two_recordings_at_once_do_not_mix(server: Server, sample: Path) -> None:
    alone = post(server, sample).json()["segments"]
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(post(server, sample).json())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer["segments"] for answer in answers] == [alone] * 3


@pytest.mark.parametrize("lane", ["whisper", "embedded"])
def test_a_killed_worker_costs_no_answer(server: Server, sample: Path, lane: str) -> None:
    expected = post(server, sample).json()["text"]
    answers: list[requests.Response] = []
    request = threading.Thread(target=lambda: answers.append(post(server, sample)))
    request.start()
    wait_until(lambda: any(worker["jobs"] for worker in server.get("/stats")["lanes"][lane]["workers"]))
    [worker] = server.get("/stats")["lanes"][lane]["workers"]
    os.kill(worker["pid"], signal.SIGKILL)
    request.join()
    assert answers[0].status_code == 200
    assert answers[0].json()["text"] == expected
    metrics = requests.get(f"{server.url}/metrics", timeout=10).text
    assert f'diarserve_worker_restarts_total{{lane="{lane}",reason="killed"}} 1.0' in metrics


def test_silence_and_very_short_audio_answer_properly(server: Server, tmp_path: Path) -> None:
    for name, samples in (("silence.wav", 160_000), ("short.wav", 3200)):
        path = tmp_path / name
        size = samples * 2
        head = (
            b"RIFF"
            + (size + 36).to_bytes(4, "little")
            + b"WAVEfmt "
            + bytes.fromhex("10000000 0100 0100 803e0000 007d0000 0200 1000")
        )
        path.write_bytes(head + b"data" + size.to_bytes(4, "little") + bytes(size))
        answer = post(server, path)
        assert answer.status_code == 200
        document = answer.json()
        check(document)
        assert (document["text"], document["segments"], document["speakers"]) == ("", [], [])


@pytest.mark.skipif(not recordings.SHARED.is_dir(), reason="the shared recordings are not on this machine")
@pytest.mark.parametrize(
    ("name", "speakers", "words"),
    [
        ("jfk.flac", 1, "ask what you can do for your country"),
        ("podcast.opus", 3, "the"),
        ("dev00.wav", 2, "the"),
        ("hotwords.mp3", 1, ""),
        ("multilingual.mp3", None, ""),
        ("stereo_diarization.wav", 2, ""),
    ],
)
def test_real_recordings(server: Server, name: str, speakers: int | None, words: str) -> None:
    answer = post(server, recordings.SHARED / name)
    assert answer.status_code == 200
    document = answer.json()
    check(document)
    assert words in plain(document["text"])
    assert document["text"]
    if speakers:
        assert len({turn["speaker"] for turn in document["turns"]}) == speakers


def hostile() -> dict[str, tuple[bytes, int, str]]:
    def wav(size: int, rate: int = 16_000, channels: int = 1) -> bytes:
        frame = 2 * channels
        return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size + 36, b"WAVE", b"fmt ", 16, 1, channels, rate,
                           rate * frame, frame, 16, b"data", size)  # fmt: skip

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.wav", "x" * 1000)
    return {
        "text": (b"no audio at all\n" * 500, 415, "unsupported_media"),
        "ffconcat": (b"ffconcat version 1.0\nfile sample.wav\n", 415, "unsupported_media"),
        "m3u8": (b"#EXTM3U\n#EXTINF:9.0,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", 415, "unsupported_media"),
        "truncated": (wav(960_000) + bytes(200_000), 422, "truncated"),
        "empty": (b"", 400, "empty_file"),
        "ten hours": (wav(16_000 * 2 * 36_000) + bytes(1000), 422, "truncated"),
        "eight channels": (wav(6_144_000, 192_000, 8) + bytes(6_144_000), 415, "unsupported_media"),
        "png": (b"\x89PNG\r\n\x1a\n" + bytes(1000), 415, "unsupported_media"),
        "zeros": (bytes(64 << 20), 415, "unsupported_media"),
        "zip": (archive.getvalue(), 415, "unsupported_media"),
    }


@pytest.mark.parametrize("name", hostile())
def test_hostile_uploads_are_refused_and_leave_nothing(server: Server, name: str) -> None:
    data, status, code = hostile()[name]
    files = {"file": ("../../call.wav", data)}
    answer = requests.post(f"{server.url}/api/v1/parallel/transcribe", files=files, timeout=100)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert "/" not in error["message"].replace("M4A/AAC", "")
    metrics = requests.get(f"{server.url}/metrics", timeout=10).text
    assert "diarserve_spool_bytes 0.0" in metrics


def test_nothing_is_left_in_the_spool(server: Server) -> None:
    metrics = requests.get(f"{server.url}/metrics", timeout=10).text
    assert "diarserve_spool_bytes 0.0" in metrics


def test_a_killed_server_leaves_no_process_behind() -> None:
    with running() as doomed:
        workers = psutil.Process(doomed.pid).children(recursive=True)
        assert len(workers) >= 3
        os.kill(doomed.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive


def test_the_command_line_transcribes_without_a_server(sample: Path) -> None:
    command = [sys.executable, "-m", "diarserve", "transcribe", str(sample), "--format", "json", "--num-speakers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    document = json.loads(done.stdout)
    check(document)
    assert document["speakers"] == ["SPEAKER_00", "SPEAKER_01"]


def test_the_doctor_finds_everything_that_the_embedded_default_needs() -> None:
    command = [sys.executable, "-m", "diarserve", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0
    assert "MISSING" not in done.stdout
    assert "cpu" in done.stdout
