"""As a service of systemd: what the server tells its manager, and the unit that `diarserve install-service` writes."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from diarserve.cli.main import main
from diarserve.cli.service_manager import watchdog_seconds
from tests.support.app import CONFIG
from tests.support.server import configured
from tests.support.waiting import wait_until

ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze: apt-get install systemd")


class Manager:
    """Listens as systemd does."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.lines: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while message := self._socket.recv(4096).decode():
            self.lines += message.split("\n")

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.address)
        self._reader.join()
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.close()


def test_a_manager_hears_that_the_server_is_ready_lives_and_stops(manager: Manager) -> None:
    with configured(CONFIG, {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "100000"}):
        wait_until(lambda: "READY=1" in manager.lines)
        fed = manager.lines.count("WATCHDOG=1")
        wait_until(lambda: manager.lines.count("WATCHDOG=1") > fed + 2)
        assert "STOPPING=1" not in manager.lines
    wait_until(lambda: "STOPPING=1" in manager.lines)
    told = [line for line in manager.lines if line != "WATCHDOG=1"]
    assert told == ["STATUS=Loading models", "READY=1", "STATUS=Ready", "STOPPING=1"]


def test_a_server_whose_model_does_not_load_says_so_and_serves(manager: Manager) -> None:
    config = CONFIG.replace("[whisper]", '[whisper]\nboot = "fail"')
    with configured(config, {"NOTIFY_SOCKET": manager.address}, wait_ready=False) as server:
        wait_until(lambda: "READY=1" in manager.lines)
        assert any(line.startswith("STATUS=Not ready: ") for line in manager.lines)
        assert server.get("/livez")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 60),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),  # a parent's, which this process inherited
    ],
)
def test_the_watchdog_is_fed_where_this_process_is_watched(environment: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(environment, pid=7) == seconds


@pytest.fixture
def unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The unit of this installation, in a folder of the test's own."""
    assert main(["install-service", "--folder", str(tmp_path / "systemd" / "system"), "--user", "root"]) == 0
    assert "systemctl enable --now diarserve" in capsys.readouterr().err
    return tmp_path / "systemd" / "system" / "diarserve.service"


def test_the_unit_is_written_with_its_user(unit: Path) -> None:
    text = unit.read_text()
    assert not re.search(r"@\w+@", text)
    assert "Type=notify\n" in text
    assert re.search(r"^ExecStart=/\S+ serve --data-dir /var/lib/diarserve$", text, re.MULTILINE)
    assert "u root" in (unit.parent.parent.parent / "sysusers.d" / "diarserve.conf").read_text()


def test_gpus_and_low_ports_are_allowed_where_the_configuration_needs_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpu.toml"
    file.write_text('port = 443\n[whisper]\ndevice = "cuda"\n')
    assert main(["install-service", "--config", str(file), "--print"]) == 0
    text = capsys.readouterr().out
    assert "DeviceAllow=char-nvidia rw" in text
    assert "PrivateDevices" not in text
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in text
    assert f"--config {file}" in text


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["install-service", "--folder", str(tmp_path / "file" / "system")]) == 2
    assert "--print" in capsys.readouterr().err


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    done = subprocess.run([str(ANALYZE), "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, "diarserve" in done.stderr) == (0, False), done.stderr


@needs_systemd
def test_the_unit_is_hardened(unit: Path) -> None:
    command = [str(ANALYZE), "security", "--offline=true", "--no-pager", "--threshold=30", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:]  # its exposure is at most 3.0 of 10
