"""What may happen to a worker in the midst of a recording: the recording is done all the same or fails with a reason,
its neighbours are done, and everything is as before."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.callbacks import Callbacks
from tests.support.server import API
from tests.support.target import Holdings, Target, assert_all_back, under_attack
from tests.support.waiting import wait_until

LANES = ("decode", "whisper", "embedded")
ATTEMPTS = 3
ENVIRONMENT = {
    "DIARSERVE_LIMITS_ATTEMPTS": str(ATTEMPTS),
    "DIARSERVE_WHISPER_MEMORY_LIMIT_MIB": "1024",
    "DIARSERVE_WHISPER_STEP_TIMEOUT": "5",
    "DIARSERVE_EMBEDDED_STEP_TIMEOUT": "5",
}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with under_attack(tmp_path_factory.mktemp("workers"), ENVIRONMENT) as begun:
        begun.submit()
        begun.assert_all_ended_once()  # what is opened once, with the first task, is open
        yield begun


def restarts(target: Target) -> int:
    """Of all lanes."""
    return sum(int(target.lane(lane)["restarts"]) for lane in LANES)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
@pytest.mark.parametrize("lane", LANES)
def test_a_signal_that_ends_a_busy_worker_costs_no_task(
    target: Target, before: Holdings, lane: str, number: signal.Signals
) -> None:
    ended = restarts(target)
    worker = target.lane(lane)["pid"]
    os.kill(worker, signal.SIGSTOP)  # so that it is busy for as long as it takes to hit it
    target.submit()
    assert target.busy(lane) == worker
    os.kill(worker, number)
    with contextlib.suppress(ProcessLookupError):  # SIGKILL ends a stopped process too
        os.kill(worker, signal.SIGCONT)
    assert_all_back(target, before)
    assert restarts(target) == ended + 1


@pytest.mark.parametrize(
    "order",
    ["kill-once whisper", "hang-once whisper", "exit-once whisper", "broken-once whisper", "kill-once embedded"],
)
def test_a_worker_that_ends_in_a_step_costs_no_task(target: Target, before: Holdings, order: str) -> None:
    ended = restarts(target)
    for task in ("", order, "", ""):
        target.submit(2, task)
    assert_all_back(target, before)
    assert restarts(target) == ended + 1


@pytest.mark.slow_faults  # the step's deadline, and what a worker is given beyond it
def test_a_worker_that_is_stopped_is_replaced(target: Target, before: Holdings) -> None:
    ended = restarts(target)
    target.submit(2, "stop-once whisper")
    target.submit()
    assert_all_back(target, before)
    assert restarts(target) == ended + 1


@pytest.mark.parametrize("order", ["kill whisper", "abort whisper", "segfault whisper", "kill embedded"])
def test_a_poison_recording_fails_after_its_attempts_and_alone(target: Target, before: Holdings, order: str) -> None:
    ended = restarts(target)
    neighbour = target.submit(5)
    poison = target.submit(2, order, ends="failed")
    target.submit()
    assert_all_back(target, before)
    assert restarts(target) == ended + ATTEMPTS
    assert target.status(poison)["error_code"] == "model_failed"
    assert target.status(neighbour)["status"] == "completed"


@pytest.mark.parametrize("order", ["devour whisper", "raise whisper"])
def test_what_an_engine_raises_costs_one_recording(target: Target, before: Holdings, order: str) -> None:
    """Also where it has used up the memory of its worker, which may outlive that or not: other threads need some."""
    task = target.submit(2, order, ends="failed")
    target.submit()
    assert_all_back(target, before)
    assert target.status(task)["error_code"] == "model_failed"


def test_a_gpu_without_memory_is_done_with_less_or_says_so(target: Target, before: Holdings) -> None:
    ended = restarts(target)
    task = target.submit(3, "full whisper")
    failing = target.submit(3, "full-for-ever whisper", ends="failed")
    assert_all_back(target, before)
    assert restarts(target) == ended
    assert target.server.get(f"{API}/result/{task}")["degraded"]
    assert target.status(failing)["error_code"] == "out_of_memory"
    answer = target.post("/transcribe", 3, "full-for-ever whisper")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "out_of_memory")


def test_a_lane_that_cannot_boot_leaves_accepted_tasks_to_the_next_server(tmp_path: Path, callbacks: Callbacks) -> None:
    accepted: dict[str, str] = {}
    gate = tmp_path / "gate"
    gate.touch()
    with under_attack(tmp_path, {"DIARSERVE_WHISPER_GATE": str(gate)}, callbacks, accepted) as first:
        for _ in range(6):
            first.submit()
    sick = {"DIARSERVE_WHISPER_BOOT": "fail"}
    with under_attack(tmp_path, sick, callbacks, accepted, wait_ready=False) as second:
        wait_until(lambda: second.server.get("/stats")["lanes"]["whisper"]["halted"])
        assert "no such model" in second.server.get("/stats")["lanes"]["whisper"]["halted"]
        answer = second.post("/transcribe")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
        second.submit()  # a task can wait for a server that is well
        assert second.server.get("/stats")["store"]["tasks"]["queued"] == len(accepted) == 7
    with under_attack(tmp_path, None, callbacks, accepted) as third:
        assert_all_back(third, third.holdings())


def test_a_worker_that_cannot_boot_for_a_while_costs_no_task(tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    with under_attack(tmp_path, {"DIARSERVE_WHISPER_BOOT": f"die while {sick}"}) as target:
        target.submit()
        target.assert_all_ended_once()
        before = target.holdings()
        sick.touch()
        os.kill(target.lane("whisper")["pid"], signal.SIGKILL)
        wait_until(lambda: target.lane("whisper")["last_error"])
        target.submit()
        sick.unlink()
        assert_all_back(target, before)
