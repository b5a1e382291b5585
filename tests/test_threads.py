"""Workers in threads of this process, under the lanes that know no difference: stand-in engines."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from diarserve.core.errors import ModelFailed, NotReady, Unprocessable
from diarserve.observe.metrics import Metrics
from diarserve.pool import slot as slot_module
from diarserve.pool import worker_thread
from diarserve.pool.lane import Lane
from diarserve.pool.worker_thread import WorkerThread
from tests.support.lanes import MakeLane, do, job, pid, restarts, steps_of
from tests.support.leftovers import descriptors, threads
from tests.support.waiting import until
from workers.messages import WorkerSpec
from workers.runtime.privacy import NO_TELEMETRY, OFFLINE


@pytest.fixture
async def make_lane() -> AsyncIterator[MakeLane]:
    opened: list[Lane] = []

    def make(*, step_timeout: float = 60.0, options: dict[str, Any] | None = None, **settings: Any) -> Lane:
        spec = WorkerSpec(
            "whisper",
            "tests.support.standins:Whisper",
            options or {},
            environment={"A_WORKER_WAS_HERE": "1"},
            memory_limit=2**30,
            file_limit=2**20,
            step_timeout=step_timeout,
            log_level="debug",
        )
        lane = Lane([spec], Metrics(), start=WorkerThread.start, **settings)
        lane.start()
        opened.append(lane)
        return lane

    yield make
    for lane in opened:
        await lane.close()


def of_the_process() -> list[object]:
    """What a worker in a thread must leave as it is."""
    limits = [resource.getrlimit(which) for which in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)]
    handlers = [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)]
    root = logging.getLogger()
    private = NO_TELEMETRY.keys() | OFFLINE.keys()
    environment = {name: value for name, value in os.environ.items() if name not in private}
    return [*limits, *handlers, os.getpgid(0), environment, root.level, list(root.handlers)]


async def test_a_job_is_done_in_this_process_which_stays_as_it_is(make_lane: MakeLane, tmp_path: Path) -> None:
    before = of_the_process()
    lane, seen = make_lane(), []
    done = await lane.run(
        job(tmp_path, 3), virtual_deadline=0, on_progress=lambda p: seen.append((p.share, len(p.partial)))
    )
    assert [word.word for word in done.result.words] == [" w0", " w1", " w2"]
    assert seen == [(1 / 3, 1), (2 / 3, 1), (1.0, 1)]
    assert pid(lane) == os.getpid()
    assert of_the_process() == before


async def test_failures_are_told_as_a_process_tells_them(make_lane: MakeLane, tmp_path: Path) -> None:
    lane = make_lane()
    with pytest.raises(ModelFailed):
        await do(lane, job(tmp_path / "a", 2, "raise whisper"))
    with pytest.raises(Unprocessable):
        await do(lane, job(tmp_path / "b", 2, "refuse whisper"))
    assert restarts(lane) == 0


async def test_an_engine_that_does_not_start_halts_its_lane_with_the_reason(
    make_lane: MakeLane, tmp_path: Path
) -> None:
    lane = make_lane(options={"boot": "fail"})
    await lane.wait_ready()
    assert lane.halted == "RuntimeError: no such model"
    with pytest.raises(NotReady):
        await do(lane, job(tmp_path))


async def test_an_engine_that_exits_ends_its_worker_and_not_the_server(make_lane: MakeLane, tmp_path: Path) -> None:
    lane = make_lane()
    done = await do(lane, job(tmp_path, 3, "exit-once whisper"))
    assert len(done.result.words) == 3
    assert restarts(lane) == 1


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


async def test_a_worker_that_hangs_is_left_behind_and_its_job_done(
    make_lane: MakeLane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_module, "_KILL_GRACE", 0.5)
    monkeypatch.setattr(worker_thread, "_CLOSE_TIMEOUT", 0.1)
    before = threads()
    lane = make_lane(step_timeout=0.5)
    done = await do(lane, job(tmp_path, 3, "block-once whisper"))
    assert len(done.result.words) == 3
    assert restarts(lane) == 1
    (tmp_path / "go").touch()  # so that the thread ends
    await lane.close()
    await until(lambda: threads() <= before)


async def test_closing_stops_at_the_next_step_and_leaves_nothing_behind(make_lane: MakeLane, tmp_path: Path) -> None:
    await do(make_lane(), job(tmp_path / "first"))  # what is opened once for all
    before = descriptors(), threads()
    lane = make_lane(options={"step_seconds": 0.01})
    task = asyncio.create_task(do(lane, job(tmp_path / "a", 10_000)))
    await steps_of(tmp_path / "a")
    await lane.close()
    with pytest.raises(NotReady):
        await task
    assert threads() - before[1] == set()
    assert descriptors() - before[0] == set()
