"""Load with Locust. Against any running server:

    locust -f bench/locustfile.py --host http://127.0.0.1:8000 --headless Closed --users 4 --run-time 60s
    locust -f bench/locustfile.py --host http://127.0.0.1:8000 --headless Open --users 1 --arrivals 0.5 --run-time 60s

Closed: every user asks again as soon as it has its answer. Open: recordings arrive at a constant rate, however long
the answers take, as from many people who know nothing of each other.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from gevent.pool import Group  # type: ignore[import-untyped]
from locust import FastHttpUser, constant, events, task

from bench.clients import TRANSCRIBE, form
from tests.support.recordings import sample


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _options(parser: Any) -> None:
    parser.add_argument("--arrivals", type=float, default=0.5, help="Open: recordings a second from each user")
    parser.add_argument("--recording", default=str(sample()), help="what everybody sends")
    parser.add_argument("--answers", default="", help="a file for every answer: when it was asked for, seconds, well")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _keep(environment: Any, **_: Any) -> None:
    """Locust's own CSV file is written before those who still wait have their answers."""
    answers: list[tuple[float, float, bool]] = []

    def answered(start_time: float, response_time: float, exception: Exception | None, **_: Any) -> None:
        answers.append((start_time, response_time / 1e3, exception is None))

    def write(**_: Any) -> None:
        if environment.parsed_options.answers:
            Path(environment.parsed_options.answers).write_text(json.dumps(answers))

    environment.events.request.add_listener(answered)
    environment.events.quit.add_listener(write)


class _Caller(FastHttpUser):
    abstract = True
    network_timeout = connection_timeout = 600.0

    def on_start(self) -> None:
        self.kind, self.body = form(Path(self.environment.parsed_options.recording).read_bytes())

    def ask(self) -> None:
        # Its annotation forgets bytes; its documentation does not.
        self.client.post(TRANSCRIBE, data=self.body, headers={"Content-Type": self.kind})  # type: ignore[arg-type]


class Closed(_Caller):
    wait_time = constant(0)

    @task
    def transcribe(self) -> None:
        self.ask()


class Open(_Caller):
    wait_time = constant(0)

    def on_start(self) -> None:
        super().on_start()
        self.virtual_deadline, self.asked = time.monotonic(), Group()

    def on_stop(self) -> None:
        self.asked.join()  # those who wait longest count too

    @task
    def arrive(self) -> None:
        self.asked.spawn(self.ask)
        self.virtual_deadline += 1 / self.environment.parsed_options.arrivals
        time.sleep(max(self.virtual_deadline - time.monotonic(), 0))  # gevent's: Locust patches it
