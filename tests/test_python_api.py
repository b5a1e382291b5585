"""The service inside a Python program."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diarserve import Options, ParallelDiarizationService
from diarserve.core.errors import InvalidRequest, NotReady, Unprocessable
from diarserve.service import python_api
from tests.support.app import wav
from tests.support.leftovers import children
from tests.support.paths import REPOSITORY
from tests.support.voices import speaking
from tests.support.waiting import until

Recording = Callable[..., bytes]

STAND_INS = """
separate = false
[decode]
engine = "tests.support.standins:Copier"
[whisper]
engine = "tests.support.standins:Whisper"
step_seconds = {step_seconds}
boot = "{boot}"
[embedded]
engine = "tests.support.standins:Diarizer"
"""


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    def make(step_seconds: float = 0.0, boot: str = "") -> Path:
        path = tmp_path / "config.toml"
        path.write_text(STAND_INS.format(step_seconds=step_seconds, boot=boot))
        return path

    return make


@pytest.fixture
def call(tmp_path: Path, recording: Recording) -> Callable[..., Path]:
    def make(name: str = "call.wav", seconds: int = 3, order: str = "") -> Path:
        path = tmp_path / name
        path.write_bytes(recording(seconds, order))
        return path

    return make


@pytest.mark.parametrize("processes", [True, False])
async def test_a_recording_becomes_a_document(
    config: Callable[..., Path], call: Callable[..., Path], processes: bool
) -> None:
    before = children()
    async with ParallelDiarizationService(max_workers=2, use_process_pool=processes, config=config()) as service:
        started = len(children() - before)
        assert started >= 3 if processes else started < 3  # decoding alone is a process in either case
        document = await service.process(call(), language="en", num_speakers=2)
        assert document.text == "w0 w1 w2"
        assert document.filename == "call.wav"
        stats = service.get_processing_stats()
        assert (stats["total_tasks"], stats["completed_tasks"], stats["failed_tasks"]) == (1, 1, 0)
        assert stats["average_processing_time"] == pytest.approx(document.performance.processing_time, abs=1e-3)
        assert service.get_active_tasks() == []
        status = service.get_task_status(document.task_id)
        assert status is not None
        assert (status["status"], status["progress"], status["error"]) == ("completed", 100.0, None)
        assert service.get_task_status("unknown") is None
    await service.cleanup()  # again: it does no harm
    with pytest.raises(NotReady, match="initialize"):
        await service.process(call())


async def test_every_option_of_a_request_can_be_given(tmp_path: Path, call: Callable[..., Path]) -> None:
    config = tmp_path / "parrot.toml"
    config.write_text(STAND_INS.format(step_seconds=0, boot="").replace("Whisper", "Parrot"))
    async with ParallelDiarizationService(config=config) as service:
        document = await service.process(
            call(), language="en", prompt="Names:", hotwords="Zoë", beam_size=2, temperature=0.5, priority="low",
            diarizer="embedded", min_speakers=1, max_speakers=3, source_separation=True, enhanced_alignment=True,
        )  # fmt: skip
        words = document.text.split()
        assert words == ["language=en", "model=None", "prompt=Names:", "hotwords=Zoë", "beam=2", "temperature=0.5"]
        options = Options(language="de", beam_size=7, num_speakers=2)
        words = (await service.process(call(), options, beam_size=3)).text.split()
        assert (words[0], words[4]) == ("language=de", "beam=3")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"beam_size": 21}, "beam_size"),
        ({"temperature": 2}, "temperature"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"priority": "urgent"}, "priority"),
        ({"diarizer": "sortformer"}, "diarizer"),
        ({"options": Options(min_speakers=3), "max_speakers": 2}, None),
        ({"options": Options.model_validate({"callback_url": "http://example.org/"})}, "callback_url"),
    ],
)
async def test_a_wrong_option_is_named(
    config: Callable[..., Path], call: Callable[..., Path], fields: dict[str, Any], param: str | None
) -> None:
    async with ParallelDiarizationService(config=config(), use_process_pool=False) as service:
        with pytest.raises(InvalidRequest) as refused:
            await service.process(call(), **fields)
        assert refused.value.param == param
        assert service.get_active_tasks() == []


async def test_known_speakers_are_named_by_references_in_files(
    config: Callable[..., Path], call: Callable[..., Path], tmp_path: Path
) -> None:
    ann, cid = tmp_path / "ann.wav", tmp_path / "cid.wav"
    ann.write_bytes(speaking("0,1"))
    cid.write_bytes(speaking("-1,0.1"))
    async with ParallelDiarizationService(config=config(), data_dir=tmp_path / "data") as service:
        document = await service.process(
            call(), known_speaker_names=["Ann", "Cid"], known_speaker_references=[ann, str(cid)]
        )
        assert document.speakers == ("Ann", "SPEAKER_00")
        assert [one.name for one in document.speaker_matches or ()] == [None, "Ann"]
        # One name and its file, and options that many recordings share.
        options = Options(known_speaker_names=("Ann",), speaker_embeddings=True)
        for document in (
            await service.process(call(), known_speaker_names="Ann", known_speaker_references=str(ann)),
            await service.process(call(), options, known_speaker_references=ann),
        ):
            assert document.speakers == ("Ann", "SPEAKER_00")
        for references in ((), (ann, cid)):
            with pytest.raises(InvalidRequest, match="Each known speaker needs a name and a reference"):
                await service.process(call(), known_speaker_names="Ann", known_speaker_references=references)
        with pytest.raises(FileNotFoundError):
            await service.process(call(), known_speaker_names="Ann", known_speaker_references=tmp_path / "none.wav")
        too_short = tmp_path / "short.wav"
        too_short.write_bytes(wav(1))
        with pytest.raises(InvalidRequest, match=r"The reference of Ann lasts 1\.0 s"):
            await service.process(call(), known_speaker_names="Ann", known_speaker_references=too_short)
        assert list((tmp_path / "data" / "spool").iterdir()) == []


def test_the_signature_has_every_option() -> None:
    parameters = set(inspect.signature(ParallelDiarizationService.process).parameters)
    assert parameters - {"self", "path", "options", "known_speaker_references"} == set(Options.model_fields) - {
        "response_format",
        "callback_url",
    }


async def test_a_program_is_none_of_several_servers(
    config: Callable[..., Path], call: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIARSERVE_STORE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("DIARSERVE_STORE_OBJECTS", "s3://none")
    async with ParallelDiarizationService(config=config(), use_process_pool=False) as service:
        assert (await service.process(call())).text == "w0 w1 w2"


async def test_no_more_are_worked_on_than_there_are_workers(
    config: Callable[..., Path], call: Callable[..., Path]
) -> None:
    async with ParallelDiarizationService(max_workers=2, config=config(step_seconds=0.02)) as service:
        seen: list[list[str]] = []
        running = [asyncio.create_task(service.process(call(f"{n}.wav", 5))) for n in range(5)]
        while not all(task.done() for task in running):
            seen.append([task["status"] for task in service.get_active_tasks()])
            await asyncio.sleep(0.005)
        assert [(await task).filename for task in running] == [f"{n}.wav" for n in range(5)]
        assert max(statuses.count("processing") for statuses in seen) == 2
        assert ["processing", "processing", "queued", "queued", "queued"] in seen
        assert service.get_processing_stats()["total_tasks"] == 5


async def test_progress_is_shown_while_a_task_runs_and_cancelling_ends_it(
    config: Callable[..., Path], call: Callable[..., Path], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with ParallelDiarizationService(config=config(step_seconds=0.01), data_dir=data) as service:
        running = asyncio.create_task(service.process(call(seconds=300)))
        await until(lambda: any(0 < task["progress"] < 100 for task in service.get_active_tasks()))
        id = service.get_active_tasks()[0]["task_id"]
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        status = service.get_task_status(id)
        assert status is not None
        assert status["status"] == "cancelled"
        assert not list((data / "spool").iterdir())


async def test_failures_are_told_and_remembered(
    config: Callable[..., Path], call: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python_api, "_REMEMBERED", 2)
    async with ParallelDiarizationService(config=config()) as service:
        with pytest.raises(InvalidRequest, match="num_speakers"):
            await service.process(call(), num_speakers=0)
        with pytest.raises(FileNotFoundError):
            await service.process(tmp_path / "nowhere.wav")
        ids: list[str] = []
        for _ in range(3):
            running = asyncio.create_task(service.process(call(order="refuse whisper")))
            await until(service.get_active_tasks, pause=0)
            ids.append(service.get_active_tasks()[0]["task_id"])
            with pytest.raises(Unprocessable, match="cannot be decoded"):
                await running
        assert service.get_processing_stats()["failed_tasks"] == 3
        assert service.get_task_status(ids[0]) is None  # too long ago
        status = service.get_task_status(ids[2])
        assert status is not None
        assert (status["status"], status["error"]) == ("failed", "This recording cannot be decoded.")


@pytest.mark.parametrize("processes", [True, False])
async def test_a_model_that_cannot_start_is_named_and_nothing_stays(
    config: Callable[..., Path], processes: bool
) -> None:
    before = children()
    service = ParallelDiarizationService(use_process_pool=processes, config=config(boot="fail"))
    with pytest.raises(NotReady, match="whisper worker cannot start: RuntimeError: no such model"):
        await service.initialize()
    assert children() - before == set()
    with pytest.raises(NotReady):
        service.get_processing_stats()


async def test_cleaning_up_refuses_what_is_under_way(config: Callable[..., Path], call: Callable[..., Path]) -> None:
    service = ParallelDiarizationService(max_workers=1, config=config(step_seconds=0.01))
    await service.initialize()
    running = [asyncio.create_task(service.process(call(f"{n}.wav", 300))) for n in range(2)]
    await until(lambda: any(task["status"] == "processing" for task in service.get_active_tasks()))
    await service.cleanup()
    for task in running:
        with pytest.raises(NotReady):
            await task


def test_there_is_at_least_one_worker() -> None:
    with pytest.raises(ValueError, match="max_workers"):
        ParallelDiarizationService(max_workers=0)


# As a user writes it: no guard for the main module, logging as it was.
SCRIPT = """
import asyncio, logging, sys
from diarserve import Options, ParallelDiarizationService
from diarserve.transcript.document import encode

async def main():
    async with ParallelDiarizationService(use_process_pool=False) as service:
        document = await service.process(sys.argv[1], language="en", num_speakers=2)
        assert not service.get_active_tasks()
        assert service.get_processing_stats()["completed_tasks"] == 1
    assert not logging.getLogger().handlers
    print(encode(document).decode())

asyncio.run(main())
"""


@pytest.mark.models
@pytest.mark.timeout(300)
def test_the_real_models_run_in_threads(sample: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(sample)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["speakers"] == ["SPEAKER_00", "SPEAKER_01"]
    assert "originally from Chicago" in document["text"]
    assert document["performance"]["speedup_estimate"] > 1
