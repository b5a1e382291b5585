"""What the service's specification promises its clients: a Python client and curl lines as it has them, against a
server on the real models. Where the specification itself is on the machine, its own text is run as well."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support import paths
from tests.support.server import Server

SPECIFICATION = paths.SHARED / "spec" / "specification.md"  # not on every machine
ADDRESS = "http://localhost:80"  # the server's in the specification
API = "/api/v1/parallel"

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]

Client = dict[str, Callable[[Any], Any]]


# The client


def process_audio_parallel(server: Server, path: str) -> Any:
    fields = {"language": "en", "whisper_model": "medium.en", "source_separation": True, "enhanced_alignment": True}
    with open(path, "rb") as file:
        response = requests.post(f"{server.url}{API}/transcribe", files={"file": file}, data=fields, timeout=100)
    assert response.status_code == 200
    return response.json()


def process_audio_async(server: Server, path: str) -> Any:
    """What the submission answered, once the task has ended."""
    with open(path, "rb") as file:
        fields = {"language": "en"}
        response = requests.post(f"{server.url}{API}/transcribe/async", files={"file": file}, data=fields, timeout=100)
    assert response.status_code == 200  # 202 only for clients that prefer it: this one looks for 200
    result = response.json()
    while True:
        polled = requests.get(f"{server.url}{API}/status/{result['task_id']}", timeout=100)
        if polled.status_code == 200:
            status = polled.json()["status"]
            print(f"{status['progress']:.1f}%")
            if status["status"] == "completed":
                print("✅ Processing completed!")
                return result
            assert status["status"] in ("queued", "processing"), status["error"]
        time.sleep(0.1)


def process_multiple_files(server: Server, file_paths: list[str]) -> Any:
    with ExitStack() as opened:
        files = [("files", opened.enter_context(open(path, "rb"))) for path in file_paths]
        response = requests.post(f"{server.url}{API}/batch", files=files, data={"language": "en"}, timeout=100)
    assert response.status_code == 200
    return response.json()


OURS = (process_audio_parallel, process_audio_async, process_multiple_files)


def block(heading: str, language: str) -> str:
    """The specification's first block of code under a heading."""
    under = SPECIFICATION.read_text().partition(f"\n{heading}\n")[2]
    found = re.search(rf"```{language}\n(.*?)```", under, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(params=["ours", "the specification's"] if SPECIFICATION.is_file() else ["ours"])
def client(request: pytest.FixtureRequest, server: Server) -> Client:
    """The client's three functions, by name."""
    if request.param == "ours":
        return {function.__name__: partial(function, server) for function in OURS}
    tree = ast.parse(block("### Python Client Example", "python").replace(ADDRESS, server.url))
    # Below the functions stand two lines that name a variable which there is not.
    tree.body = [part for part in tree.body if isinstance(part, ast.Import | ast.FunctionDef)]
    names: Client = {}
    exec(compile(tree, SPECIFICATION, "exec"), names)
    return names


def test_the_client_that_waits(client: Client, sample: Path) -> None:
    result = client["process_audio_parallel"](str(sample))
    assert "originally from Chicago" in result["text"]
    assert len(result["speakers"]) == 2
    assert result["performance"]["parallel_processing"] is True
    assert result["performance"]["speedup_estimate"] > 0
    warned = {warning.split()[0] for warning in result["warnings"]}
    assert warned == {"whisper_model", "source_separation", "enhanced_alignment"}


def test_the_client_that_polls(
    client: Client, server: Server, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = client["process_audio_async"](str(sample))
    assert "✅ Processing completed!" in capsys.readouterr().out
    document = server.get(f"{API}/result/{result['task_id']}")
    assert "originally from Chicago" in document["text"]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the specification's client leaves them open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_client_that_sends_a_batch(client: Client, sample: Path, tmp_path: Path) -> None:
    files = [str(shutil.copy(sample, tmp_path / f"{number}.wav")) for number in range(3)]
    result = client["process_multiple_files"](files)
    assert (result["total_files"], result["successful"], result["failed"]) == (3, 3, 0)
    assert [one["filename"] for one in result["results"]] == ["0.wav", "1.wav", "2.wav"]
    assert len({one["text"] for one in result["results"]}) == 1
    assert result["performance"]["estimated_speedup"] > 0


# The curl lines, under their headings in the specification

CURL = {
    "#### Direct Processing": [
        f'curl -X POST "{ADDRESS}{API}/transcribe" -F "file=@audio.wav" -F "language=en" -F "whisper_model=medium.en" '
        '-F "source_separation=true" -F "enhanced_alignment=true"'
    ],
    "#### Async Processing": [
        f'curl -X POST "{ADDRESS}{API}/transcribe/async" -F "file=@audio.wav" -F "language=en"',
        f'curl "{ADDRESS}{API}/status/{{task_id}}"',
        f'curl "{ADDRESS}{API}/result/{{task_id}}"',
    ],
    "#### Batch Processing": [
        f'curl -X POST "{ADDRESS}{API}/batch" -F "files=@audio1.wav" -F "files=@audio2.wav" -F "files=@audio3.wav" '
        '-F "language=en"'
    ],
    "#### Performance Statistics": [f'curl "{ADDRESS}{API}/stats"'],
}


@pytest.mark.skipif(not SPECIFICATION.is_file(), reason="the specification is not on this machine")
@pytest.mark.parametrize("heading", CURL)
def test_the_curl_lines_are_the_specifications(heading: str) -> None:
    text = block(heading, "bash").replace("\\\n", " ")
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("curl")]
    assert lines == [shlex.split(line) for line in CURL[heading]]


def curl(line: str, server: Server, folder: Path) -> Any:
    """Run the line; where there is no curl, send by `requests` what it would send."""
    words = shlex.split(line.replace(ADDRESS, server.url))
    if shutil.which("curl"):
        done = subprocess.run([*words, "--silent"], cwd=folder, capture_output=True, check=True)
        return json.loads(done.stdout)
    [url] = (word for word in words if word.startswith(server.url))
    fields = [words[place + 1].split("=", 1) for place, word in enumerate(words) if word == "-F"]
    if not fields:
        return requests.get(url, timeout=100).json()
    form = [
        (name, (value[1:], (folder / value[1:]).read_bytes()) if value.startswith("@") else (None, value))
        for name, value in fields
    ]
    return requests.post(url, files=form, timeout=100).json()


def test_the_curl_lines(server: Server, sample: Path, tmp_path: Path) -> None:
    for number in ("", "1", "2", "3"):
        shutil.copy(sample, tmp_path / f"audio{number}.wav")
    run = partial(curl, server=server, folder=tmp_path)

    [direct] = CURL["#### Direct Processing"]
    assert "originally from Chicago" in run(direct)["text"]

    start, check, get = CURL["#### Async Processing"]
    id = run(start)["task_id"]
    while (status := run(check.format(task_id=id))["status"])["status"] in ("queued", "processing"):
        assert 0 <= status["progress"] <= 100
    assert (status["status"], status["error"]) == ("completed", None)
    assert "originally from Chicago" in run(get.format(task_id=id))["text"]

    [batch] = CURL["#### Batch Processing"]
    assert run(batch)["successful"] == 3

    [stats] = CURL["#### Performance Statistics"]
    shown = run(stats)
    assert shown["completed_tasks"] >= 5
    assert {"total_tasks", "completed_tasks", "failed_tasks", "average_processing_time"} <= shown.keys()


def test_a_task_is_watched_until_it_ends(server: Server, sample: Path) -> None:
    with sample.open("rb") as file:
        started = requests.post(f"{server.url}{API}/transcribe/async", files={"file": file}, timeout=60)
    id = started.json()["task_id"]
    status = server.get(f"{API}/status/{id}")["status"]
    assert status["status"] in ("queued", "processing")
    assert 0 <= status["progress"] <= 100
    assert status["error"] is None
    assert "event: done" in requests.get(f"{server.url}{API}/events/{id}", timeout=60).text  # it lasts until then
    assert server.get(f"{API}/status/{id}")["status"]["status"] == "completed"


def test_a_file_of_a_batch_that_is_empty_is_told(server: Server) -> None:
    batch = requests.post(f"{server.url}{API}/batch", files=[("files", ("none.wav", b""))], timeout=60).json()
    assert batch["total_files"] == 1
    assert batch["results"][0]["error"]["code"] == "empty_file"
    assert "estimated_speedup" in batch["performance"]
