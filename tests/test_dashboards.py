"""The dashboards: their files are what the list of panels says, and every query of every panel is answered by a real
Prometheus that watches a server under load."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.dashboards import DASHBOARDS
from tests.support.grafana import FOLDER, text
from tests.support.load import loaded
from tests.support.paths import REPOSITORY
from tests.support.prometheus import INSTALLED
from tests.support.waiting import wait_until

# What this machine, or this load, does not have.
EXCEPTED = {"a GPU", "lanes that are scaled"}


def panels() -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, panel) for name in DASHBOARDS for panel in json.loads((FOLDER / f"{name}.json").read_text())["panels"]
    ]


def test_the_files_are_those_of_the_panels() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(DASHBOARDS)
    for name in DASHBOARDS:
        assert (FOLDER / f"{name}.json").read_text() == text(name), "run `make dashboards`"


def test_grafana_finds_what_it_needs() -> None:
    provisioning = REPOSITORY / "config/grafana/provisioning"
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((provisioning / "dashboards/diarserve.yml").read_text())["providers"]
    assert (source["type"], provider["type"]) == ("prometheus", "file")
    names = [name for name in DASHBOARDS for _ in (0,)]
    assert len({json.loads(text(name))["uid"] for name in names}) == len(names)
    for name in names:
        titles = [panel.title for panel in DASHBOARDS[name]]
        assert len(set(titles)) == len(titles)


def test_runbooks_name_panels_that_are_there() -> None:
    titles = {name: {panel.title for panel in found} for name, found in DASHBOARDS.items()}
    for path in (REPOSITORY / "docs/runbooks").glob("*.md"):
        told = " ".join(path.read_text().split())
        for title in re.findall(r"\*([A-Z][^*]+)\*", told):
            assert any(title in found for found in titles.values()), (path.name, title)
        for title, name in re.findall(r"\*([A-Z][^*]+)\* in \*(\w+)\*", told):
            assert title in titles[name], (path.name, title, name)


@pytest.mark.skipif(not INSTALLED, reason="prometheus is not installed")
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_every_query_of_every_panel_is_answered(tmp_path: Path) -> None:
    with loaded(tmp_path) as watched:
        unanswered: list[tuple[str, str, str]] = []

        def all_are_answered() -> bool:
            unanswered[:] = [
                (name, panel["title"], target["expr"])
                for name, panel in panels()
                for target in panel["targets"]
                if not any(f"Needs {what}." in panel["description"] for what in EXCEPTED)
                and not _numbers(watched.prometheus.query(target["expr"]))
            ]
            return not unanswered

        try:
            wait_until(all_are_answered)
        except AssertionError:
            pytest.fail(f"without an answer: {unanswered}")
        exemplars = watched.prometheus.ask(
            "query_exemplars", query="diarserve_task_seconds_bucket", start=0, end="9999999999"
        )
        assert {"task_id"} == set(exemplars[0]["exemplars"][0]["labels"])


def _numbers(series: list[dict[str, Any]]) -> list[float]:
    return [float(one["value"][1]) for one in series if one["value"][1] != "NaN"]
