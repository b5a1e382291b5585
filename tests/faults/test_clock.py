"""The machine's clock is set while the server works: every task ends once, and its callback is made once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY
from tests.support.server import API
from tests.support.target import assert_all_back, under_attack

HOUR = 3600.0
SHIM = REPOSITORY / "tests" / "support" / "clock"  # its sitecustomize module


@pytest.mark.parametrize("jumps", [[12 * HOUR], [-12 * HOUR], [400 * 24 * HOUR, -400 * 24 * HOUR, 0.0]])
def test_a_clock_that_jumps_costs_no_task(tmp_path: Path, jumps: list[float]) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    environment = {
        "PYTHONPATH": os.pathsep.join([str(SHIM), str(REPOSITORY)]),
        "TEST_CLOCK": str(clock),
        "DIARSERVE_LIMITS_KEEP_RESULTS_HOURS": "100000",
    }
    with under_attack(tmp_path, environment) as target:
        target.submit()
        target.assert_all_ended_once()
        before = target.holdings()
        for jump in jumps:
            running = target.submit(2, "block-once whisper")
            target.wait_for(running, "processing")
            for _ in range(6):
                target.submit()
            written = tmp_path / "written"
            written.write_text(str(jump))
            written.replace(clock)
            target.submit()
            target.busy("whisper")
            (target.data / "tasks" / running / "go").touch()
        assert_all_back(target, before)
        documents = [target.server.get(f"{API}/result/{id}") for id in target.accepted]
        assert all(0 <= document["performance"]["processing_time"] < HOUR for document in documents)
