"""A few of the hostile inputs that `make fuzz` sends by the thousand."""

from __future__ import annotations

from pathlib import Path

from tests.support.fuzz import RUNS, fuzz


def test_three_hundred_hostile_inputs_are_no_server_errors_and_leave_nothing(tmp_path: Path) -> None:
    outcome = fuzz(tmp_path, {name: 300 // len(RUNS) for name in RUNS}, seed=1)
    assert outcome.server_errors == 0, outcome.answers
    assert not any(outcome.restarts.values())
