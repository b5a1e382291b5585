"""The log of a server and of its workers: JSON lines, each with the task that it is about."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diarserve import ParallelDiarizationService
from tests.support.app import CONFIG
from tests.support.paths import REPOSITORY
from workers.runtime import logs

# The server as `diarserve serve` sets it up, less its HTTP: one recording, and the end.
SCRIPT = """
import asyncio, sys
from diarserve.core import configuration
from diarserve import ParallelDiarizationService
from pathlib import Path
from workers.runtime import logs

async def main(config, recording):
    async with ParallelDiarizationService(config=config) as service:
        print((await service.process(recording)).task_id)

ours = configuration.load(Path(sys.argv[1]))
logs.configure("server", ours.log_level, ours.log_modules)
asyncio.run(main(*sys.argv[1:]))
"""

Lines = list[dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, recording: Callable[..., bytes]) -> Callable[..., tuple[str, Lines]]:
    """The task's id, and what was logged while it was worked on."""

    def make(**environment: str) -> tuple[str, Lines]:
        config, call = tmp_path / "config.toml", tmp_path / "call.wav"
        config.write_text(CONFIG)
        call.write_bytes(recording(2))
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, config, call],
            capture_output=True,
            text=True,
            check=True,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
        )
        return done.stdout.strip(), [json.loads(line) for line in done.stderr.splitlines()]

    return make


def by(lines: Lines, **wanted: str) -> Lines:
    return [line for line in lines if wanted.items() <= line.items()]


def test_every_line_of_a_tasks_work_names_the_task(run: Callable[..., tuple[str, Lines]]) -> None:
    id, lines = run(DIARSERVE_LOG_LEVEL="debug")
    for line in lines:
        assert {"time", "level", "process", "pid", "module", "message"} <= line.keys()
    for process in ("server", "decode", "whisper", "embedded"):
        assert by(lines, process=process, task=id), process
    assert len({line["pid"] for line in by(lines, task=id)}) == 4
    assert by(lines, module="diarserve.service.pipeline", level="debug", task=id)
    assert by(lines, module="workers.runtime.scheduler", process="whisper", task=id)  # "done: 2 items, …"
    assert len(by(lines, module="tests.support.standins", process="whisper", task=id)) == 2  # its steps


def test_single_modules_are_debugged_in_the_server_and_in_workers(run: Callable[..., tuple[str, Lines]]) -> None:
    levels = {"diarserve.service.pipeline": "debug", "tests.support.standins": "debug"}
    id, lines = run(DIARSERVE_LOG_LEVEL="info", DIARSERVE_LOG_MODULES=json.dumps(levels))
    debugged = by(lines, level="debug")
    assert {line["module"] for line in debugged} == set(levels)
    assert {line["process"] for line in debugged} == {"server", "decode", "whisper", "embedded"}
    assert all(line["task"] == id for line in debugged)


async def test_a_module_is_debugged_as_the_specification_does_it(
    tmp_path: Path, recording: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "call.wav").write_bytes(recording(2))
    caplog.set_level(logging.DEBUG, "diarserve.service.pipeline")
    async with ParallelDiarizationService(config=tmp_path / "config.toml") as service:
        await service.process(tmp_path / "call.wav")
    assert {record.name for record in caplog.records if record.levelno == logging.DEBUG} == {
        "diarserve.service.pipeline"
    }


def test_a_trace_is_one_line_and_a_line_without_a_task_has_none() -> None:
    formatter = logs.JsonLines("server")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("a.b", logging.ERROR, "", 0, "it %s", ("broke",), sys.exc_info())
    text = formatter.format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["module"], line["message"]) == ("error", "a.b", "it broke")
    assert "ValueError: two\nlines" in line["trace"]
    assert "task" not in line
    with logs.log_context("one"):
        assert json.loads(formatter.format(record))["task"] == "one"
