"""Load as users make it: limits and bounds, and every profile for a second against stand-in engines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import load_profile
from bench.bounds import refusal
from bench.slo import LIMITS, Answer, Limits, judge
from tests.support.app import CONFIG
from tests.support.paths import REPOSITORY


@pytest.mark.parametrize("host", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000", "http://127.9.9.9"])
def test_a_server_on_this_machine_may_be_loaded(host: str) -> None:
    assert refusal(host, 4, 60) is None


@pytest.mark.parametrize(
    "host",
    ["http://192.0.2.1:8000", "http://10.0.0.1", "http://example.org", "http://127.0.0.1@192.0.2.1", "127.0.0.1", "",
     None, "http://0.0.0.0:8000", "http://localhost.example.org"],
)  # fmt: skip
def test_no_other_is(host: str | None) -> None:
    assert "loopback" in (refusal(host, 4, 60) or "")


@pytest.mark.parametrize(("users", "seconds"), [(0, 60), (65, 60), (None, 60), (4, 0), (4, 601), (4, None)])
def test_a_load_is_bounded(users: int | None, seconds: int | None) -> None:
    assert refusal("http://127.0.0.1", users, seconds)


def test_each_limit_is_judged_for_itself() -> None:
    answers = [Answer(0.0, float(n), 10.0, (float(n),)) for n in range(1, 20)] + [Answer(0.0, 600.0, 10.0, None)]
    lines = judge("Clips", answers, Limits(p95=18, rtf=1.0, errors=0.05))
    assert lines == [
        ("- Clips, 20 answers, share of errors: 0.05 (target <= 0.05): met", True),
        ("- Clips, 20 answers, p95 s: 19.00 (target <= 18): **missed**", False),
        ("- Clips, 20 answers, RTF: 1.00 (target <= 1): met", True),
    ]


def test_live_words_are_judged_by_how_late_each_came() -> None:
    answers = [Answer(0.0, 33.0, 30.0, (0.5, 1.0, 5.0))]
    late = [kept for _, kept in judge("Live", answers, LIMITS["Live"])]
    assert late == [True, False, True]


@pytest.mark.parametrize("answers", [[], [Answer(0.0, 1.0, 30.0, None)], [Answer(0.0, 1.0, 30.0, ())]])
def test_a_load_that_got_nothing_keeps_no_limit(answers: list[Answer]) -> None:
    [(line, kept)] = judge("Batch", answers, LIMITS["Batch"])
    assert "nothing was transcribed" in line
    assert not kept


def test_a_profile_or_a_number_of_users_that_is_wrong_is_refused() -> None:
    for wrong in (["--profile", "clips,films"], ["--users", "1000"], ["--seconds", "3600"]):
        with pytest.raises(SystemExit, match="2"):
            load_profile.main(wrong)


def test_locust_refuses_other_machines() -> None:
    command = [sys.executable, "-m", "locust", "-f", "bench/locustfile.py", "--headless", "Clips"]
    command += ["--host", "http://192.0.2.1:8000", "--users", "1", "--run-time", "1s"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, "not an address of the loopback interface" in done.stderr) == (2, True)


_LITTLE = ["--seconds", "1", "--think", "0.1", "--meeting-minutes", "0.1", "--batch-files", "2", "--live-seconds", "3"]


@pytest.fixture
def on_stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    (tmp_path / "server.toml").write_text(CONFIG)
    return ["--server-config", str(tmp_path / "server.toml"), "--html", str(tmp_path / "report.html"), *_LITTLE]


def test_every_profile_is_answered_judged_and_reported(
    on_stand_ins: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    profiles = ["clips", "meetings", "batch", "openai", "live", "open"]
    limits = ["--max-p95", "600", "--max-rtf", "600", "--max-errors", "0"]
    code = load_profile.main(["--profile", ",".join(profiles), "--users", "6", *limits, *on_stand_ins])
    told = capfd.readouterr()
    kept = [line for line in told.out.splitlines() if line.endswith(": met")]
    assert code == 0, told.out + told.err
    assert {line.split(",")[0].removeprefix("- ").lower() for line in kept} == set(profiles)
    assert len(kept) == 3 * len(profiles)
    report = (tmp_path / "report.html").read_text()
    assert all(name in report for name in ("Batch: submit", "Live: final word", "Meetings"))


def test_a_missed_limit_is_the_exit_code_and_answers_are_kept(
    on_stand_ins: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "answers.json"
    assert load_profile.main(["--users", "1", "--max-p95", "0", "--answers", str(kept), *on_stand_ins]) == 1
    answers = json.loads(kept.read_text())
    assert all(well and seconds > 0 for _, seconds, well in answers)
    told = capfd.readouterr().out
    assert f"- Clips, {len(answers)} answers, p95 s: " in told
    assert told.count("**missed**") == 1
