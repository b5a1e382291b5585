"""The lines of README.md that are for a shell, and its Python examples, are run: those of a server against one on real
models. Comments mark what is not: it needs a network, a GPU, a microphone, minutes, or Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import pytest
from cryptography.fernet import Fernet

from diarserve.client import Client
from tests.support.paths import REPOSITORY
from tests.support.recordings import excerpt
from tests.support.server import Server, running, started

BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", (REPOSITORY / "README.md").read_text(), re.MULTILINE | re.DOTALL)
LINES = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines() if line]
PROGRAMS = [block for language, block in BLOCKS if language == "python"]
NOT_RUN = re.compile(r"# (network|GPU|microphone|minutes|until Ctrl-C)")
SERVES = re.compile(r"(?:\w+=\S+ )*diarserve serve\b")


def test_what_is_not_run_is_marked() -> None:
    assert [line.split("#")[0].strip() for line in LINES if NOT_RUN.search(line)] == [
        "make demo",
        "make test",
        "pip install .",
        "uvx --from . diarserve --version",
        "diarserve transcribe --watch recordings --output-dir transcripts",
        "diarserve listen",
        'pip install ".[production]"',
        "diarserve doctor --config config/gpu.toml",
        "diarserve serve --config config/gpu.toml",
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    made = tmp_path_factory.mktemp("readme")
    excerpt(sample, 6.0, 12.0, made / "call.wav")
    excerpt(sample, 18.0, 22.0, made / "ann.wav")
    return made


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One of its own: its workers are scaled and it keeps voices."""
    voices = {"DIARSERVE_VOICES_ENABLED": "true", "DIARSERVE_VOICES_KEY": Fernet.generate_key().decode()}
    with running(voices) as own:
        yield own


@pytest.fixture
def environment() -> dict[str, str]:
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": tools, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.timeout(300)
@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_each_line_works(server: Server, folder: Path, environment: dict[str, str]) -> None:
    with Client(server.url) as client:
        task = client.submit(folder / "call.wav")
        client.wait(task.task_id)
    for line in LINES:
        if NOT_RUN.search(line):
            continue
        line = line.replace("http://127.0.0.1:8000", server.url).replace("TASK", task.task_id)
        if match := re.match(r"export (\w+)=(\S+)", line):
            environment[match[1]] = match[2]
        elif SERVES.match(line):
            serves(line, folder, environment)
        else:
            done = subprocess.run(
                ["bash", "-c", line], capture_output=True, text=True, check=False, cwd=folder, env=environment
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            assert not done.stdout.startswith('{"error"'), (line, done.stdout)  # curl ends with 0 all the same
    written = {path.name for path in (folder / "transcripts").iterdir()}
    assert written == {f"{name}.{kind}" for name in ("call", "ann") for kind in ("srt", "json")}


def serves(line: str, folder: Path, environment: dict[str, str]) -> None:
    """It starts, on a port of its own."""
    script = f'cd {folder} && exec env {line.partition("#")[0].strip()} "$@"'
    with started(["bash", "-c", script, "bash"], environment, wait_ready=False):
        pass


@pytest.mark.slow
@pytest.mark.models
def test_the_programs_work(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with_server, without = (block.replace("http://127.0.0.1:8000", server.url) for block in PROGRAMS)
    found: dict[str, object] = {}
    exec(with_server, found)
    exec("async def main():\n" + indent(without + "return document\n", "    "), found)
    documents = [found["document"], asyncio.run(found["main"]())]  # type: ignore[operator]
    assert ["Hello" in document.text for document in documents] == [True, True]
