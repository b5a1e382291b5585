"""A Prometheus of one's own, with config/prometheus.yml and its rules, watching a server on this machine. Windows are
shortened, so that minutes of rules pass in seconds."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.paths import REPOSITORY
from tests.support.waiting import wait_until

INSTALLED = shutil.which("prometheus") is not None
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_WINDOW = re.compile(r"\[(\d+)([smh])\]")
_FOR = re.compile(r"^( +for: )(\d+)([smh])$", re.MULTILINE)
_LEAST = 5  # seconds of a window: a rate needs two scrapes, and one may be late


@dataclass(frozen=True)
class Prometheus:
    url: str
    faster: float  # how much its rules' windows are shortened

    def ask(self, path: str, **query: Any) -> Any:
        """Raises urllib's HTTPError for a query that is in error."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Its series, now; `$__rate_interval` as Grafana would have it."""
        series: list[dict[str, Any]] = self.ask("query", query=self.shortened(expression))["result"]
        return series

    def history(self, expression: str, seconds: float) -> list[dict[str, Any]]:
        now = time.time()
        found = self.ask("query_range", query=self.shortened(expression), start=now - seconds, end=now, step=1)
        series: list[dict[str, Any]] = found["result"]
        return series

    def firing(self) -> set[str]:
        """The alerts."""
        found = self.ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    def shortened(self, expression: str) -> str:
        return shortened(expression.replace("$__rate_interval", "1m"), self.faster)


def shortened(text: str, faster: float) -> str:
    """Rules or queries with all windows and waits shortened.

    >>> shortened("rate(a[10m]) > 1", 60)
    'rate(a[10s]) > 1'
    """

    def window(found: re.Match[str]) -> str:
        return f"[{max(_LEAST, round(int(found[1]) * _SECONDS[found[2]] / faster))}s]"

    def wait(found: re.Match[str]) -> str:
        return f"{found[1]}{round(int(found[2]) * _SECONDS[found[3]] / faster)}s"

    return _FOR.sub(wait, _WINDOW.sub(window, text))


@contextmanager
def watching(port: int, folder: Path, faster: float = 60) -> Iterator[Prometheus]:
    """Scrape the server on that port every second, for as long as the block lasts. `folder` takes its files."""
    for name in ("recording.yml", "alerts.yml"):
        (folder / name).write_text(shortened((REPOSITORY / "config" / name).read_text(), faster))
    config = (REPOSITORY / "config" / "prometheus.yml").read_text()
    config = config.replace("_interval: 15s", "_interval: 1s").replace("diarserve:8000", f"127.0.0.1:{port}")
    (folder / "prometheus.yml").write_text(config)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command += [f"--web.listen-address={address}", "--enable-feature=exemplar-storage", "--log.level=error"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        prometheus = Prometheus(f"http://{address}", faster)
        wait_until(lambda: _is_up(prometheus))
        yield prometheus
    finally:
        process.terminate()
        process.wait(30)


def _is_up(prometheus: Prometheus) -> bool:
    """Whether it has scraped once."""
    try:
        return bool(prometheus.query("up"))
    except OSError:  # an HTTPError too: it answers 503 while it starts
        return False
