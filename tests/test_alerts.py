"""The alerts: each fires by what it is for, as promtool has it, and says what to do in a runbook of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.support.dashboards import DASHBOARDS
from tests.support.paths import REPOSITORY

CONFIG, RUNBOOKS = REPOSITORY / "config", REPOSITORY / "docs" / "runbooks"
TESTS = REPOSITORY / "tests" / "rules" / "alerts_test.yml"
_COMMANDS = ("diarserve ", "make ")
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def alerts() -> dict[str, Any]:
    groups = yaml.safe_load((CONFIG / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


@needs_promtool
@pytest.mark.parametrize(
    "command",
    [
        ("check", "rules", "--lint=all", "--lint-fatal", CONFIG / "recording.yml", CONFIG / "alerts.yml"),
        ("check", "config", CONFIG / "prometheus.yml"),
        ("test", "rules", TESTS),
    ],
    ids=lambda command: f"{command[0]} {command[1]}",
)
def test_promtool_agrees(command: tuple[Any, ...]) -> None:
    done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_and_not_to_fire() -> None:
    tests = [test for group in yaml.safe_load(TESTS.read_text())["tests"] for test in group["alert_rule_test"]]
    fired = {test["alertname"] for test in tests if test["exp_alerts"]}
    silent = {test["alertname"] for test in tests if not test["exp_alerts"]}
    assert fired == silent == set(alerts())


def test_every_alert_has_a_runbook_and_every_runbook_its_alert() -> None:
    books = {path.stem: path.read_text() for path in RUNBOOKS.glob("*.md") if path.name != "README.md"}
    assert set(books) == set(alerts())
    for name, alert in alerts().items():
        assert alert["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert books[name].startswith(f"# {name}\n")
        assert f"({name}.md)" in (RUNBOOKS / "README.md").read_text()


def test_runbooks_quote_what_is_really_said() -> None:
    """Of the log, of /readyz, and the names of panels."""
    folders = (REPOSITORY / "diarserve", REPOSITORY / "workers")
    said = " ".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    shown = {panel.title for panels in DASHBOARDS.values() for panel in panels} | DASHBOARDS.keys()
    for path in RUNBOOKS.glob("*.md"):
        text = path.read_text()
        quoted = [quote for quote in re.findall(r"`([a-z][a-z .()]+)`", text) if " " in quote]
        missing = [part for quote in quoted for part in quote.split("...") if part.strip("() ") not in said]
        assert [part for part in missing if not part.startswith(_COMMANDS)] == [], path.name
        assert set(re.findall(r"(?<!\*)\*(\w[^*\n]+)\*(?!\*)", text)) <= shown, path.name


def test_runbooks_lead_only_to_what_is_there() -> None:
    for path in RUNBOOKS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), (path.name, target)
