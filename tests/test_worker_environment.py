"""What a worker's process finds in its environment, and what of the network it can reach."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diarserve.core import configuration
from diarserve.pool import lanes
from tests.support.server import configured
from workers.runtime.environment import environment_of

CONFIG = """
separate = false
[decode]
engine = "tests.support.standins:Copier"
[whisper]
engine = "tests.support.standins:Whisper"
environment.LANE_SAYS = "this"
[embedded]
engine = "tests.support.standins:Diarizer"
"""
SECRETS = {
    "DIARSERVE_WEBHOOKS_SECRET": "whsec_c2VjcmV0LW9mLXRoZS1zZXJ2ZXI=",
    "HF_TOKEN": "secret-of-the-hub",
    "HTTPS_PROXY": "http://user:secret-of-the-proxy@127.0.0.1:1",
    "AWS_SECRET_ACCESS_KEY": "secret-of-somebody-else",
    "LDAP_PASSWORD": "secret-of-the-directory",
}


def environ(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(line.split("=", 1) for line in lines if line)


def test_no_worker_knows_a_secret_of_the_server() -> None:
    with configured(CONFIG, {**SECRETS, "TZ": "UTC"}) as server:
        workers = {lane: environ(pid) for lane, pids in server.workers().items() for pid in pids}
    assert workers.keys() == {"decode", "whisper", "embedded"}
    for given in workers.values():
        assert "secret" not in "".join(given.values())
        assert not SECRETS.keys() & given.keys()
        assert (given["PATH"], given["TZ"]) == (os.environ["PATH"], "UTC")
        assert given["ORT_DISABLE_TELEMETRY"] == given["HF_HUB_OFFLINE"] == "1"
    assert workers["whisper"]["LANE_SAYS"] == "this"


def test_a_lane_names_what_else_its_worker_needs() -> None:
    given = environment_of({"SERVICE_KEY": "x", "HF_HUB_OFFLINE": "0"}, {"HF_TOKEN": "y", "ANOTHER_KEY": "z"})
    assert (given["SERVICE_KEY"], given["HF_TOKEN"], given["HF_HUB_OFFLINE"]) == ("x", "y", "0")
    assert "ANOTHER_KEY" not in given


def test_a_worker_imports_what_the_server_can_import_by_now(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert environment_of({})["PYTHONPATH"] == str(tmp_path)


@pytest.mark.parametrize(
    ("variables", "offline"),
    [
        ({}, "1"),
        ({"DIARSERVE_DOWNLOAD_MODELS": "true"}, "0"),
        ({"DIARSERVE_DOWNLOAD_MODELS": "true", "HF_HUB_OFFLINE": "1"}, "1"),
    ],
)
def test_models_are_downloaded_only_where_the_settings_allow_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], offline: str
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = configuration.load()
    given = environment_of(lanes.environment(settings, settings.whisper))
    assert given["HF_HUB_OFFLINE"] == offline


def test_a_worker_reaches_no_other_machine() -> None:
    script = """
import socket, urllib.request
from workers.runtime.privacy import refuse_network
refuse_network()
with socket.create_server(("127.0.0.1", 0)) as own:
    socket.create_connection(("localhost", own.getsockname()[1])).close()
socket.socketpair()
for reach in (
    lambda: urllib.request.urlopen("http://192.0.2.1/"),
    lambda: socket.getaddrinfo("models.example", 443),
    lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"", ("192.0.2.1", 53)),
):
    try:
        reach()
    except OSError as error:
        assert "download_models" in str(error), error
    else:
        raise AssertionError
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
