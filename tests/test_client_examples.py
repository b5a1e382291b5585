"""The examples of docs/client.md are run, and the command line listens, against a server with real models."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY
from tests.support.server import Server

EXAMPLES = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "client.md").read_text(), re.DOTALL)
SAID = [
    ("transcribe", r"SPEAKER_0\d: .*Hello"),
    ("submit", r"100 % .*\n1\n00:00:"),
    ("events", r"Hello"),
    ("revise", r"(?m)^\[.*\] Ann: Hi!"),
    ("batch", r"(?m)^first\.wav \['first\.json', 'first\.srt'\]$"),
    ("stream", r"(?s)/SPEAKER_0\d.*\nHello\."),
    ("result", r"(?s)^unsupported_media .*\nnum_speakers .*\nThere is no task no-such-task\.\n$"),
]


@pytest.fixture
def folder(sample: Path, tmp_path: Path) -> Path:
    """Parts of the sample, from where speech begins."""
    (tmp_path / "calls").mkdir()
    with wave.open(str(sample)) as recording:
        for name, seconds in (("call.wav", 6), ("short.wav", 4), ("calls/first.wav", 4), ("calls/second.wav", 4)):
            recording.rewind()
            recording.setpos(6 * recording.getframerate())
            with wave.open(str(tmp_path / name), "wb") as part:
                part.setparams(recording.getparams())
                part.writeframes(recording.readframes(seconds * recording.getframerate()))
    return tmp_path


def run(server: Server, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DIARSERVE_URL": server.url, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


@pytest.mark.parametrize(("example", "said"), list(zip(EXAMPLES, SAID, strict=True)), ids=[name for name, _ in SAID])
def test_an_example_of_the_documentation_says_so(
    example: str, said: tuple[str, str], server: Server, folder: Path
) -> None:
    name, pattern = said
    assert f".{name}(" in example
    done = run(server, folder, "-W", "error", "-c", example)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(pattern, done.stdout), done.stdout


def test_the_command_line_listens_to_a_recording_and_fetches_the_transcript(server: Server, folder: Path) -> None:
    heard = run(server, folder, "-m", "diarserve", "listen", "short.wav", "--speed", "3")
    assert heard.returncode == 0, heard.stderr
    assert re.search(r"(?m)^\[0:0\d\.\d\d\] SPEAKER_0\d: .*Hello", heard.stdout), heard.stdout
    told = re.fullmatch(r"The transcript of the whole: diarserve (result [0-9a-f]{32})\n", heard.stderr)
    assert told
    kept = run(server, folder, "-m", "diarserve", *told[1].split(), "--format", "srt")
    assert kept.stdout.startswith("1\n00:00:0")
