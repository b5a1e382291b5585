"""The machinery under the models: real worker processes, stand-in engines."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from diarserve.core.errors import ModelFailed, NotReady, Unprocessable
from diarserve.observe.metrics import Metrics
from diarserve.pool import slot as slot_module
from diarserve.pool.lane import Lane
from diarserve.pool.worker import Worker
from diarserve.pool.worker_process import WorkerProcess
from tests.support.lanes import MakeLane, Options, do, job, pid, restarts, specs, steps_of
from tests.support.leftovers import children, descriptors
from tests.support.waiting import until
from workers.messages import Done, WorkerSpec


@pytest.fixture
async def make_lane() -> AsyncIterator[MakeLane]:
    opened: list[Lane] = []

    def make(*, step_timeout: float = 60.0, options: Options = (), **settings: Any) -> Lane:
        lane = Lane(specs(options, {"SAID_AT_BIRTH": "yes"}, step_timeout), Metrics(), **settings)
        lane.start()
        opened.append(lane)
        return lane

    yield make
    for lane in opened:
        await lane.close()


async def test_a_job_is_done_and_reports_progress(make_lane: MakeLane, tmp_path: Path) -> None:
    lane, seen = make_lane(), []
    done = await lane.run(
        job(tmp_path, 3), virtual_deadline=0, on_progress=lambda p: seen.append((p.share, len(p.partial)))
    )
    assert [word.word for word in done.result.words] == [" w0", " w1", " w2"]
    assert seen == [(1 / 3, 1), (2 / 3, 1), (1.0, 1)]
    assert done.started <= done.finished


async def test_a_worker_begins_with_its_environment(make_lane: MakeLane, tmp_path: Path) -> None:
    """What is set later, the C library does not see."""
    lane = make_lane()
    await do(lane, job(tmp_path, 1))
    assert "SAID_AT_BIRTH=yes" in Path(f"/proc/{pid(lane)}/environ").read_text().split("\0")
    assert "SAID_AT_BIRTH" not in os.environ


async def test_the_event_loop_gets_a_core_before_its_workers(make_lane: MakeLane, tmp_path: Path) -> None:
    lane = make_lane()
    await do(lane, job(tmp_path, 1))
    ours, theirs = (os.getpriority(os.PRIO_PROCESS, process) for process in (os.getpid(), pid(lane)))
    assert theirs == min(ours + 5, 19)


@pytest.mark.parametrize("when", ["kill-once", "stop-once", "hang-once"])
async def test_a_worker_that_dies_or_hangs_is_replaced_and_its_job_done(
    make_lane: MakeLane, tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_module, "_KILL_GRACE", 1.0)
    lane = make_lane(step_timeout=1.0)
    done = await do(lane, job(tmp_path, 3, f"{when} whisper"))
    assert len(done.result.words) == 3
    assert restarts(lane) == 1


async def test_a_hang_is_counted_from_the_last_sign_of_life(
    make_lane: MakeLane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_module, "_KILL_GRACE", 0.5)
    lane = make_lane(step_timeout=1.0)
    await do(lane, job(tmp_path / "before"))
    await asyncio.sleep(1.0)
    began = time.monotonic()
    await do(lane, job(tmp_path / "hangs", 3, "stop-once whisper"))
    assert restarts(lane) == 1
    assert time.monotonic() - began > 1.5


async def test_a_poison_recording_fails_and_its_neighbours_do_not(make_lane: MakeLane, tmp_path: Path) -> None:
    lane = make_lane(attempts=2)
    requests = [job(tmp_path / str(n), 2, "kill whisper" if n == 1 else "") for n in range(4)]
    outcomes = await asyncio.gather(*(do(lane, request) for request in requests), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Done, ModelFailed, Done, Done]


async def test_an_engine_error_is_tried_again_and_leaks_nothing(make_lane: MakeLane, tmp_path: Path) -> None:
    lane = make_lane()
    with pytest.raises(ModelFailed) as failure:
        await do(lane, job(tmp_path, 2, "raise whisper"))
    assert "secret" not in str(failure.value.body())
    assert restarts(lane) == 0


async def test_the_server_logs_why_a_model_failed_since_it_knows_whether_anybody_waits(
    make_lane: MakeLane, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A worker would log it for a cancelled job as well, whose recording may be gone in the midst of a step."""
    lane = make_lane(attempts=1)
    with pytest.raises(ModelFailed):
        await do(lane, job(tmp_path, 2, "raise whisper"))
    [record] = [record for record in caplog.records if "the model broke" in record.getMessage()]
    assert (record.name, record.levelname) == ("diarserve.pool.slot", "ERROR")
    assert "the model broke" not in capfd.readouterr().err


async def test_a_job_that_cannot_be_done_says_why_at_once(make_lane: MakeLane, tmp_path: Path) -> None:
    with pytest.raises(Unprocessable) as failure:
        await do(make_lane(), job(tmp_path, 2, "refuse whisper"))
    assert failure.value.body()["error"] == {
        "code": "undecodable",
        "message": "This recording cannot be decoded.",
        "param": "file",
    }


async def test_a_worker_that_cannot_boot_halts_its_lane_with_the_reason(make_lane: MakeLane, tmp_path: Path) -> None:
    lane = make_lane(options={"boot": "fail"})
    waiting = asyncio.create_task(do(lane, job(tmp_path)))
    await lane.wait_ready()
    assert lane.halted == "RuntimeError: no such model"
    with pytest.raises(NotReady):
        await waiting
    with pytest.raises(NotReady):
        await do(lane, job(tmp_path))


async def test_a_worker_that_dies_at_every_boot_halts_its_lane(make_lane: MakeLane) -> None:
    lane = make_lane(options={"boot": "die"})
    await lane.wait_ready()
    assert lane.halted == "it died while starting"
    assert restarts(lane) == 4


async def test_a_worker_that_cannot_boot_leaves_the_lane_to_one_that_still_starts(
    make_lane: MakeLane, tmp_path: Path
) -> None:
    may_start = asyncio.Event()

    async def start(spec: WorkerSpec) -> Worker:
        if not spec.options:
            await may_start.wait()
        return await WorkerProcess.start(spec)

    lane = make_lane(options=[{"boot": "fail"}, {}], start=start)
    waiting = asyncio.create_task(do(lane, job(tmp_path / "early")))
    await until(lambda: lane.state()["workers"][0].get("halted"))
    assert lane.halted is None
    may_start.set()
    assert len((await waiting).result.words) == 2
    assert len((await do(lane, job(tmp_path / "later"))).result.words) == 2
    broken, serving = lane.state()["workers"]
    assert (broken["halted"], broken["pid"]) == ("RuntimeError: no such model", None)
    assert (serving["halted"], serving["last_error"]) == (None, None)


async def test_a_lane_is_halted_once_none_of_its_workers_can_boot(make_lane: MakeLane, tmp_path: Path) -> None:
    lane = make_lane(options=[{"boot": "fail"}, {"boot": "fail"}])
    with pytest.raises(NotReady):
        await do(lane, job(tmp_path))
    assert lane.halted == "RuntimeError: no such model"
    assert all(worker["halted"] for worker in lane.state()["workers"])


async def test_a_shortage_of_descriptors_passes(
    make_lane: MakeLane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_module, "_LONGEST_PAUSE", 0.01)
    failed = 0

    async def start(spec: WorkerSpec) -> Worker:
        nonlocal failed
        if failed < 2 * slot_module._BOOT_ATTEMPTS:
            failed += 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return await WorkerProcess.start(spec)

    lane = make_lane(start=start)
    waiting = asyncio.create_task(do(lane, job(tmp_path)))
    await until(lambda: failed >= slot_module._BOOT_ATTEMPTS + 1, pause=0)
    assert lane.halted is None
    assert "Too many open files" in lane.state()["workers"][0]["last_error"]
    assert len((await waiting).result.words) == 2
    assert lane.state()["workers"][0]["last_error"] is None


async def test_a_lane_closes_while_no_worker_can_be_started(make_lane: MakeLane, tmp_path: Path) -> None:
    tried = asyncio.Event()

    async def start(spec: WorkerSpec) -> Worker:
        tried.set()
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    lane = make_lane(start=start)
    waiting = asyncio.create_task(do(lane, job(tmp_path)))
    await tried.wait()
    await lane.close()
    with pytest.raises(NotReady, match="shutting down"):
        await waiting


async def test_a_program_that_cannot_be_started_halts_its_lane(
    make_lane: MakeLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_module, "_LONGEST_PAUSE", 0.01)

    async def start(spec: WorkerSpec) -> Worker:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "python")

    lane = make_lane(start=start)
    await lane.wait_ready()
    assert "No such file or directory" in (lane.halted or "")


async def test_a_short_job_overtakes_a_long_one(make_lane: MakeLane, tmp_path: Path) -> None:
    lane = make_lane(options={"step_seconds": 0.02})
    long = asyncio.create_task(do(lane, job(tmp_path / "long", 100)))
    await steps_of(tmp_path / "long")
    await do(lane, job(tmp_path / "short", 2))
    assert not long.done()
    await long


async def test_a_worker_full_of_patient_jobs_still_takes_an_urgent_one(make_lane: MakeLane, tmp_path: Path) -> None:
    lane = make_lane(width=2, options={"step_seconds": 0.02})
    patient = [asyncio.create_task(do(lane, job(tmp_path / str(n), 50), patience=100)) for n in range(4)]
    await steps_of(tmp_path / "0")
    await do(lane, job(tmp_path / "urgent", 1))
    assert not any(task.done() for task in patient)
    await asyncio.gather(*patient)


async def test_an_urgent_job_waits_for_no_step_and_a_cancelled_step_is_left(
    make_lane: MakeLane, tmp_path: Path
) -> None:
    lane = make_lane()
    endless = asyncio.create_task(do(lane, job(tmp_path / "endless", 100, "endless whisper")))
    await steps_of(tmp_path / "endless")
    await do(lane, job(tmp_path / "urgent", 2))
    endless.cancel()
    await do(lane, job(tmp_path / "patient", 200))  # would wait for ever, as it is not more urgent
    assert endless.cancelled()


async def test_cancelling_the_caller_stops_the_job(make_lane: MakeLane, tmp_path: Path) -> None:
    lane = make_lane(options={"step_seconds": 0.01})
    task = asyncio.create_task(do(lane, job(tmp_path / "a", 10_000)))
    await steps_of(tmp_path / "a")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await do(lane, job(tmp_path / "b"))  # by its end the worker has heard of the cancellation
    steps = await steps_of(tmp_path / "a")
    await do(lane, job(tmp_path / "c"))
    assert await steps_of(tmp_path / "a") == steps
    assert lane.state()["workers"][0]["jobs"] == 0


async def test_many_kills_leave_nothing_behind(make_lane: MakeLane, tmp_path: Path) -> None:
    await do(make_lane(), job(tmp_path / "first"))  # what is opened once for all
    before = descriptors(), children()
    lane = make_lane(attempts=100)
    for round in range(5):
        task = asyncio.create_task(do(lane, job(tmp_path / str(round), 20)))
        await steps_of(tmp_path / str(round))
        os.kill(pid(lane), signal.SIGKILL)
        assert len((await task).result.words) == 20
    await lane.close()
    assert descriptors() - before[0] == set()
    assert children() - before[1] == set()


async def test_closing_ends_the_worker(make_lane: MakeLane, tmp_path: Path) -> None:
    lane = make_lane()
    await do(lane, job(tmp_path))
    worker = psutil.Process(pid(lane))
    await lane.close()
    assert not worker.is_running()
