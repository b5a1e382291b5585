"""A diarserve of one's own on a free loopback port, for as long as a `with` block."""

from __future__ import annotations

import json
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
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Server:
    url: str
    pid: int
    alive_after: float  # seconds from start to /livez
    ready_after: float  # seconds from start to /readyz

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)


@contextmanager
def running(
    environment: Mapping[str, str] | None = None, *, quiet: bool = True, arguments: Sequence[str] = ()
) -> Iterator[Server]:
    """Start a server and wait until it is ready. Raises RuntimeError with the reason if it never will be.
    `arguments` may name a data directory other than one that is removed at the end."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="diarserve-") as folder:
        command = [sys.executable, "-m", "diarserve", "serve", "--port", str(port), "--data-dir", folder, *arguments]
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stderr=subprocess.DEVNULL if quiet else None,
        )
        try:
            alive = _wait(process, url + "/livez") - started
            ready = _wait(process, url + "/readyz") - started
            yield Server(url, process.pid, alive, ready)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, limit: float = 300.0) -> float:
    """The moment the address first answers 200."""
    deadline, said = time.monotonic() + limit, "it does not answer"
    while time.monotonic() < deadline:
        if process.poll() is not None:
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
