"""deploy/compose.yaml: what it mounts, publishes and configures, without an engine to run it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml

from diarserve.core.configuration import load
from tests.support.compose import default, read
from tests.support.containerfile import stages
from tests.support.paths import REPOSITORY

CONTAINERFILE = REPOSITORY / "Containerfile"
COMPOSE = REPOSITORY / "deploy" / "compose.yaml"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read(COMPOSE)


def test_every_file_that_is_mounted_is_there_and_read_only(compose: dict[str, Any]) -> None:
    mounts = [(name, mount.split(":")) for name, one in compose["services"].items() for mount in one["volumes"]]
    files = [(name, mount) for name, mount in mounts if mount[0].startswith(".")]
    missing = [mount[0] for _, mount in files if not (COMPOSE.parent / mount[0]).exists()]
    assert missing == []
    assert {mount[2] for _, mount in files} == {"ro"}
    assert {mount[0] for _, mount in mounts if not mount[0].startswith(".")} == compose["volumes"].keys()
    targets = [(name, mount[1]) for name, mount in mounts]
    assert len(targets) == len(set(targets))


def test_services_are_locked_down_and_published_on_loopback_alone(compose: dict[str, Any]) -> None:
    for one in compose["services"].values():
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"]
        assert set(one["networks"]) <= compose["networks"].keys()
        for port in one.get("ports", ()):
            assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", default(port))


def test_the_server_of_compose_starts_with_its_settings_and_prometheus_finds_it(compose: dict[str, Any]) -> None:
    server = compose["services"]["diarserve"]
    settings = load(environment=server["environment"])
    assert server["build"]["target"] in stages(CONTAINERFILE, {})
    assert (COMPOSE.parent / server["build"]["context"] / server["build"]["dockerfile"]).samefile(CONTAINERFILE)
    assert default(server["ports"][0]).endswith(f":{settings.port}")
    assert server["stop_grace_period"] == f"{settings.stop_seconds + 10:.0f}s"
    scraped = yaml.safe_load((COMPOSE.parent / "prometheus.yml").read_text())
    [target] = scraped["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target == f"diarserve:{settings.access.metrics_port}"
    mounted = [mount.split(":")[1] for mount in compose["services"]["prometheus"]["volumes"]]
    assert {f"/etc/prometheus/{name}" for name in scraped["rule_files"]} <= set(mounted)


@pytest.mark.skipif(not which("promtool"), reason="promtool checks configurations of Prometheus")
def test_promtool_takes_the_configuration_of_compose(tmp_path: Path) -> None:
    for name, file in (("prometheus.yml", COMPOSE.parent), ("alerts.yml", REPOSITORY / "config")):
        (tmp_path / name).write_text((file / name).read_text())
    (tmp_path / "recording.yml").write_text((REPOSITORY / "config" / "recording.yml").read_text())
    subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yml"], check=True, capture_output=True)


def test_grafana_is_given_prometheus_and_the_dashboards(compose: dict[str, Any]) -> None:
    grafana = compose["services"]["grafana"]
    provisioning = REPOSITORY / "config" / "grafana" / "provisioning"
    [source] = [
        each
        for file in (provisioning / "datasources").iterdir()
        for each in yaml.safe_load(file.read_text())["datasources"]
    ]
    assert source["url"] == "http://prometheus:9090"
    [provider] = [
        each
        for file in (provisioning / "dashboards").iterdir()
        for each in yaml.safe_load(file.read_text())["providers"]
    ]
    mounted = {target: file for file, target, *_ in (mount.split(":") for mount in grafana["volumes"])}
    folder = COMPOSE.parent / mounted[provider["options"]["path"]]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (folder / home.name).exists()
    assert mounted["/etc/grafana/provisioning"] == "../config/grafana/provisioning"
    for dashboard in folder.glob("*.json"):
        uids = set(re.findall(r'"datasource":\s*\{[^}]*"uid":\s*"([^"]+)"', dashboard.read_text()))
        assert uids <= {source["uid"], "-- Grafana --", "${datasource}"}
