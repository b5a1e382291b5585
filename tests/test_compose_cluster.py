"""deploy/compose-cluster.yaml and its proxy: what they mount, publish and configure, without an engine to run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from diarserve.core.configuration import load
from tests.support.compose import default, read
from tests.support.paths import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
SERVERS = ("server-1", "server-2")
KEYS = json.dumps([{"name": "app", "role": "submit", "sha256": 64 * "0"}])


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read(DEPLOY / "compose-cluster.yaml")


def environment(service: dict[str, Any]) -> dict[str, str]:
    given = {"DIARSERVE_ACCESS_KEYS": KEYS}
    return {name: default(value, given.get(name, "secret")) for name, value in service["environment"].items()}


def test_services_are_locked_down_and_only_the_proxy_is_published_on_loopback(compose: dict[str, Any]) -> None:
    published = {name: one["ports"] for name, one in compose["services"].items() if "ports" in one}
    assert published.keys() == {"proxy"}
    assert default(published["proxy"][0]) == "127.0.0.1:8000:8080"
    for name, one in compose["services"].items():
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert one.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])
        assert one["security_opt"] == ["no-new-privileges:true"]
        assert set(one.get("networks", ())) <= compose["networks"].keys()
        assert set(one.get("depends_on", ())) <= compose["services"].keys()
    assert compose["networks"]["back"]["internal"] is True
    assert {name for name, one in compose["services"].items() if one.get("networks") == ["back"]} == {"postgres", "s3"}


def test_every_volume_is_there_and_each_server_has_its_own(compose: dict[str, Any]) -> None:
    mounts = {name: [each.split(":")[0] for each in one["volumes"]] for name, one in compose["services"].items()}
    named = {each for all_of in mounts.values() for each in all_of if not each.startswith(".")}
    assert named == compose["volumes"].keys()
    assert not set(mounts["server-1"]) & set(mounts["server-2"])
    assert mounts["s3"] == mounts["bucket"]
    [file] = [each for all_of in mounts.values() for each in all_of if each.startswith(".")]
    assert (DEPLOY / file).is_file()


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_starts_with_its_settings_and_shares_what_the_others_share(compose: dict[str, Any], name: str) -> None:
    service, postgres, s3 = (compose["services"][each] for each in (name, "postgres", "s3"))
    settings = load(environment=environment(service))
    assert settings.store.shared
    user, database = (postgres["environment"][f"POSTGRES_{each}"] for each in ("USER", "DB"))
    assert settings.store.url.get_secret_value() == f"postgresql://{user}:secret@postgres/{database}"
    assert service["environment"]["AWS_ACCESS_KEY_ID"] == s3["environment"]["ROOT_ACCESS_KEY"]
    assert service["environment"]["AWS_SECRET_ACCESS_KEY"] == s3["environment"]["ROOT_SECRET_KEY"]
    assert service["environment"] == compose["services"][SERVERS[0]]["environment"]
    assert service["stop_grace_period"] == f"{settings.stop_seconds + 10:.0f}s"
    [network] = compose["networks"]["front"]["ipam"]["config"]
    assert [str(each) for each in settings.access.trusted_proxies] == [default(network["subnet"])]
    assert compose["services"][SERVERS[0]]["build"]["args"]["CLUSTER"]


def test_the_bucket_of_the_settings_is_the_one_that_is_made(compose: dict[str, Any]) -> None:
    objects = environment(compose["services"]["server-1"])["DIARSERVE_STORE_OBJECTS"]
    folder = compose["services"]["s3"]["command"][-1]
    assert compose["services"]["bucket"]["entrypoint"][-1] == f"{folder}/{objects.split('/')[2]}"


def test_the_proxy_asks_both_servers_at_their_port_and_listens_where_it_is_published(compose: dict[str, Any]) -> None:
    text = (DEPLOY / "Caddyfile").read_text()
    [line] = re.findall(r"reverse_proxy (.*) \{", text)
    port = load(environment=environment(compose["services"]["server-1"])).port
    assert line.split() == [f"{name}:{port}" for name in SERVERS]
    [listened] = re.findall(r"(?m)^:(\d+) \{", text)
    assert compose["services"]["proxy"]["ports"][0].endswith(f":{listened}")


@pytest.mark.skipif(not which("caddy"), reason="caddy checks its configuration")
def test_caddy_takes_the_configuration(tmp_path: Path) -> None:
    command = ["caddy", "validate", "--adapter", "caddyfile", "--config", str(DEPLOY / "Caddyfile")]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HOME": str(tmp_path)})
