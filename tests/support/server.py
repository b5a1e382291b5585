"""A diarserve of one's own on a free loopback port, for as long as a `with` block."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.network import Machine
from tests.support.paths import REPOSITORY

API = "/api/v1/parallel"


@dataclass(frozen=True)
class Server:
    url: str
    pid: int
    alive_after: float  # seconds from start to /livez
    ready_after: float  # seconds from start to /readyz

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def transcribe(self, path: Path) -> dict[str, Any]:
        """The document of one recording."""
        import requests  # here, as every test imports this module

        with path.open("rb") as file:
            answer = requests.post(f"{self.url}{API}/transcribe", files={"file": file}, timeout=7200)
        answer.raise_for_status()
        document: dict[str, Any] = answer.json()
        return document

    def transcribe_at_once(self, paths: Sequence[Path]) -> list[dict[str, Any]]:
        with ThreadPoolExecutor(len(paths)) as pool:
            return list(pool.map(self.transcribe, paths))

    def workers(self) -> dict[str, list[int]]:
        """The processes of each lane."""
        lanes = self.get("/stats")["lanes"]
        return {name: [worker["pid"] for worker in lane["workers"] if worker["pid"]] for name, lane in lanes.items()}

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, of the server's own process and of each lane's."""
        processes = {"server": [self.pid], **self.workers()}
        return {name: sum(map(cpu_seconds, pids)) for name, pids in processes.items()}


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process so far, its ended threads too, to the nanosecond: Linux's clock_getcpuclockid(3). Raises
    OSError where there is none."""
    return time.clock_gettime(~pid << 3 | 2)


@contextmanager
def running(
    environment: Mapping[str, str] | None = None,
    *,
    quiet: bool = True,
    log: Path | None = None,
    arguments: Sequence[str] = (),
    wait_ready: bool = True,
    machine: Machine | None = None,
) -> Iterator[Server]:
    """Start a server and wait until it is ready. Raises RuntimeError with the reason if it never will be.
    `arguments` may name a data directory other than one that is removed at the end. Without `wait_ready` it need only
    be alive: its models may never load. Its log goes to the file `log`, where that is named."""
    with tempfile.TemporaryDirectory(prefix="diarserve-") as folder:
        command = [sys.executable, "-m", "diarserve", "serve", "--data-dir", folder, *arguments]
        host = "127.0.0.1"
        if machine:
            host = machine.address
            command = machine.command(*command, "--host", host)
            environment = {**(environment or {}), "DIARSERVE_ACCESS_OPEN": "true"}
        with started(command, environment, quiet=quiet, log=log, wait_ready=wait_ready, host=host) as server:
            yield server


@contextmanager
def configured(
    config: str, environment: Mapping[str, str] | None = None, *, log: Path | None = None, wait_ready: bool = True
) -> Iterator[Server]:
    """As `running`, with the text of a configuration file, whose engines may be the tests'."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(config)
        file.flush()
        environment = {"PYTHONPATH": str(REPOSITORY), **(environment or {})}
        with running(environment, log=log, arguments=["--config", file.name], wait_ready=wait_ready) as server:
            yield server


@contextmanager
def started(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    quiet: bool = True,
    log: Path | None = None,
    wait_ready: bool = True,
    host: str = "127.0.0.1",
) -> Iterator[Server]:
    """Any server that takes --port and answers /livez and /readyz."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://{host}:{port}"
    began = time.monotonic()
    with log.open("wb") if log else nullcontext(subprocess.DEVNULL if quiet else None) as said:
        process = subprocess.Popen(
            [*command, "--port", str(port)], env={**os.environ, **(environment or {})}, stderr=said
        )
    try:
        alive = _wait(process, url + "/livez") - began
        ready = _wait(process, url + "/readyz") - began if wait_ready else math.nan
        yield Server(url, process.pid, alive, ready)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until_ready(url: str) -> None:
    """Wait until a server that another process started can serve requests."""
    _wait(None, url + "/readyz")


def _wait(process: subprocess.Popen[bytes] | None, url: str, limit: float = 300.0) -> float:
    """The moment the address first answers 200."""
    deadline, said = time.monotonic() + limit, "it does not answer"
    while time.monotonic() < deadline:
        if process and process.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=10):
                return time.monotonic()
        except urllib.error.HTTPError as error:
            said = error.read().decode()
        except OSError:
            pass
        time.sleep(0.02)
    raise RuntimeError(f"the server is not ready: {said}")
