"""The service's specification, run: its Python client and its curl lines against a server on the real models."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.paths import REPOSITORY
from tests.support.server import Server

SPECIFICATION = REPOSITORY.parent / "shared" / "spec" / "specification.md"
ADDRESS = "http://localhost:80"

pytestmark = pytest.mark.timeout(300)
specified = pytest.mark.skipif(not SPECIFICATION.is_file(), reason="the specification is not on this machine")

Client = dict[str, Callable[[Any], Any]]


def block(heading: str, language: str) -> str:
    """The first block of code under a heading."""
    under = SPECIFICATION.read_text().partition(f"\n{heading}\n")[2]
    found = re.search(rf"```{language}\n(.*?)```", under, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def client(server: Server) -> Client:
    """The client's functions. Below them stand two lines that name a variable which there is not."""
    tree = ast.parse(block("### Python Client Example", "python").replace(ADDRESS, server.url))
    tree.body = [part for part in tree.body if isinstance(part, ast.Import | ast.FunctionDef)]
    names: Client = {}
    exec(compile(tree, SPECIFICATION, "exec"), names)
    return names


@specified
def test_the_client_that_waits(client: Client, sample: Path) -> None:
    result = client["process_audio_parallel"](str(sample))
    assert "originally from Chicago" in result["text"]
    assert len(result["speakers"]) == 2
    assert result["performance"]["parallel_processing"] is True
    assert result["performance"]["speedup_estimate"] > 0
    warned = {warning.split()[0] for warning in result["warnings"]}
    assert warned == {"whisper_model", "source_separation", "enhanced_alignment"}


@specified
def test_the_client_that_polls(
    client: Client, server: Server, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = client["process_audio_async"](str(sample))
    assert "✅ Processing completed!" in capsys.readouterr().out
    document = server.get(f"/api/v1/parallel/result/{result['task_id']}")
    assert "originally from Chicago" in document["text"]


@specified
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the client leaves them open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_client_that_sends_a_batch(client: Client, sample: Path, tmp_path: Path) -> None:
    files = [str(shutil.copy(sample, tmp_path / f"{number}.wav")) for number in range(3)]
    result = client["process_multiple_files"](files)
    assert (result["total_files"], result["successful"], result["failed"]) == (3, 3, 0)
    assert [one["filename"] for one in result["results"]] == ["0.wav", "1.wav", "2.wav"]
    assert len({one["text"] for one in result["results"]}) == 1
    assert result["performance"]["estimated_speedup"] > 0


@specified
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_curl_lines(server: Server, sample: Path, tmp_path: Path) -> None:
    for number in ("", "1", "2", "3"):
        shutil.copy(sample, tmp_path / f"audio{number}.wav")

    def curl(line: str) -> Any:
        words = shlex.split(line.replace(ADDRESS, server.url))
        done = subprocess.run([*words, "--silent"], cwd=tmp_path, capture_output=True, check=True)
        return json.loads(done.stdout)

    def lines(heading: str) -> list[str]:
        text = block(heading, "bash").replace("\\\n", " ")
        return [line for line in text.splitlines() if line.startswith("curl")]

    [direct] = lines("#### Direct Processing")
    assert "originally from Chicago" in curl(direct)["text"]

    start, check, get = lines("#### Async Processing")
    id = curl(start)["task_id"]
    while (status := curl(check.format(task_id=id))["status"])["status"] in ("queued", "processing"):
        assert 0 <= status["progress"] <= 100
    assert (status["status"], status["error"]) == ("completed", None)
    assert "originally from Chicago" in curl(get.format(task_id=id))["text"]

    [batch] = lines("#### Batch Processing")
    assert curl(batch)["successful"] == 3

    [stats] = lines("#### Performance Statistics")
    assert curl(stats)["completed_tasks"] >= 5


def test_the_fields_that_clients_read(server: Server, sample: Path) -> None:
    """The same fields where there is no specification to run."""
    base = f"{server.url}/api/v1/parallel"
    with sample.open("rb") as file:
        started = requests.post(f"{base}/transcribe/async", files={"file": file}, data={"language": "en"}, timeout=60)
    assert started.status_code == 200  # to python-requests, which the specification's client is
    id = started.json()["task_id"]
    status = requests.get(f"{base}/status/{id}", timeout=60).json()["status"]
    assert status["status"] in ("queued", "processing")
    assert 0 <= status["progress"] <= 100
    assert status["error"] is None
    assert "event: done" in requests.get(f"{base}/events/{id}", timeout=60).text  # it lasts until then
    assert requests.get(f"{base}/status/{id}", timeout=60).json()["status"]["status"] == "completed"
    performance = requests.get(f"{base}/result/{id}", timeout=60).json()["performance"]
    assert performance["parallel_processing"] is True
    assert performance["speedup_estimate"] > 0
    stats = requests.get(f"{base}/stats", timeout=60).json()
    assert {"total_tasks", "completed_tasks", "failed_tasks", "average_processing_time"} <= stats.keys()
    batch = requests.post(f"{base}/batch", files=[("files", ("none.wav", b""))], timeout=60).json()
    assert batch["total_files"] == 1
    assert batch["results"][0]["error"]["code"] == "empty_file"
    assert "estimated_speedup" in batch["performance"]
