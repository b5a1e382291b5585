"""Load with Locust, as users of each kind make it. Against a server on this machine:

    locust -f bench/locustfile.py --host http://127.0.0.1:8000 --headless Clips --users 4 --run-time 60s
    locust -f bench/locustfile.py --host http://127.0.0.1:8000 --headless Open --users 1 --arrivals 0.5 --run-time 60s

`make load-profile` starts the server too. The profiles are the classes: Clips, Meetings, Batch, OpenAI and Live ask
again as soon as they have their answer (and have thought, --think). Open: recordings arrive at a constant rate,
however long the answers take, as from many people who know nothing of each other.

The exit code is 1 where a limit was missed (--max-errors, --max-p95, --max-rtf; by default those of bench/slo.py), and
2 where the load is refused (bench/bounds.py).
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
import websocket  # Locust depends on it
from gevent.pool import Group  # type: ignore[import-untyped]
from locust import FastHttpUser, events, task
from locust.user.task import LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING

from bench.bounds import refusal
from bench.clients import TRANSCRIBE, form, wav
from bench.slo import LIMITS, Answer, judge
from tests.support.recordings import decoded, sample, speech
from tests.support.server import API
from workers.messages import SAMPLE_RATE

_FRAME = 0.1  # seconds of live audio in a message
_APART = 7.3  # seconds of speech between the places at which two live users begin
_speakers = count()
_POLL = 0.25  # seconds between two looks at a task
_PATIENCE = 600.0  # seconds for an answer
_STOP = 300  # seconds for the answers that are still awaited when the time is up, unless --stop-timeout says another


class Unexpected(Exception):
    """An answer that the user should not have got."""


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _options(parser: Any) -> None:
    parser.add_argument("--think", type=float, default=0.0, help="seconds between an answer and the next recording")
    parser.add_argument("--arrivals", type=float, default=0.5, help="Open: recordings a second from each user")
    parser.add_argument("--recording", default=str(sample()), help="Clips, Open, OpenAI, Batch: what everybody sends")
    parser.add_argument("--meeting-minutes", type=float, default=5.0, help="Meetings: length of a recording")
    parser.add_argument("--batch-files", type=int, default=4, help="Batch: recordings in one request")
    parser.add_argument("--live-seconds", type=float, default=30.0, help="Live: length of a session")
    parser.add_argument("--max-errors", type=float, help="limit: the share of answers that are none")
    parser.add_argument("--max-p95", type=float, help="limit: seconds that 95 %% of users wait at most")
    parser.add_argument("--max-rtf", type=float, help="limit: seconds of waiting for a second of audio")
    parser.add_argument("--answers", default="", help="a file for every answer: when it was asked for, seconds, well")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _begin(environment: Any, **_: Any) -> None:
    options = environment.parsed_options
    why = refusal(environment.host, options.num_users, options.run_time)
    if why or not options.headless:  # in the browser the user could change all of these
        print(f"refused: {why or 'say --headless'}", file=sys.stderr)
        sys.exit(2)
    environment.stop_timeout = environment.stop_timeout or _STOP
    environment.answers, environment.verdicts = defaultdict(list), []
    asked = {name: getattr(options, f"max_{name}") for name in ("errors", "p95", "rtf")}
    asked = {name: limit for name, limit in asked.items() if limit is not None}

    def judge_all(**_: Any) -> None:
        for profile in (user.__name__ for user in environment.user_classes):
            environment.verdicts += judge(profile, environment.answers[profile], replace(LIMITS[profile], **asked))
        kept = all(met for _, met in environment.verdicts)
        if not (kept and environment.runner.exceptions):  # those are mistakes here: Locust makes the code 1
            environment.process_exit_code = 0 if kept else 1

    def report(**_: Any) -> None:
        """After Locust's own tables. Its CSV file is written before those who still wait have their answers."""
        print("\n".join(line for line, _ in environment.verdicts))
        if options.answers:
            answers = [answer for profile in environment.answers.values() for answer in profile]
            rows = [(answer.asked, answer.seconds, answer.well) for answer in answers]
            Path(options.answers).write_text(json.dumps(rows))

    environment.events.quitting.add_listener(judge_all)
    environment.events.quit.add_listener(report)


@cache
def _recording(path: str) -> tuple[bytes, float]:
    """A file, and its length in seconds."""
    return Path(path).read_bytes(), len(decoded(Path(path))) / SAMPLE_RATE


@cache
def _pcm(seconds: float) -> bytes:
    """Speech, as 16-bit mono 16 kHz samples."""
    samples: bytes = (speech(seconds).clip(-1, 1) * 32767).astype("<i2").tobytes()
    return samples


class _Profile(FastHttpUser):
    """`answer` sends `audio` seconds and returns what p95 is of, None for the time that it took, or raises
    Unexpected."""

    abstract = True
    network_timeout = connection_timeout = _PATIENCE
    audio = 0.0

    def on_start(self) -> None:
        self.options = self.environment.parsed_options

    def wait_time(self) -> float:
        return float(self.options.think)

    @task
    def turn(self) -> None:
        self.ask()

    def stop(self, force: bool = False) -> bool:
        """Locust would kill a user who waits for its turn, and the kill can come just after the next request began:
        such a user ends by itself after its wait, so that a request is cut off only when --stop-timeout has passed."""
        if not force and self._state == LOCUST_STATE_WAITING:
            self._state = LOCUST_STATE_STOPPING
            return False
        return bool(super().stop(force))

    def ask(self) -> None:
        asked, began, waits = time.time(), time.monotonic(), None
        try:
            waits = self.answer() or (time.monotonic() - began,)
        except Unexpected:
            pass  # Locust has counted it
        finally:  # also where it is cut off
            answer = Answer(asked, time.monotonic() - began, self.audio, waits)
            self.environment.answers[type(self).__name__].append(answer)

    def answer(self) -> tuple[float, ...] | None:
        raise NotImplementedError

    def send(self, method: str, path: str, name: str = "", **how: Any) -> Any:
        """The response. It is counted under `name`, by default the profile's."""
        response = self.client.request(method, path, name=name or type(self).__name__, **how)
        if not 200 <= response.status_code < 300:
            raise Unexpected(f"{response.status_code} for {path}")
        return response

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Counts what takes several requests as one."""
        with self.environment.events.request.measure("whole", type(self).__name__) as row:
            yield
        if row["exception"]:
            raise Unexpected from row["exception"]


class Clips(_Profile):
    """One recording of some seconds after the other, each waited for."""

    path, fields = TRANSCRIBE, dict[str, str]()

    def on_start(self) -> None:
        super().on_start()
        recording, self.audio = self.recording()
        self.kind, self.body = form(recording, **self.fields)

    def recording(self) -> tuple[bytes, float]:
        return _recording(self.options.recording)

    def answer(self) -> tuple[float, ...] | None:
        self.send("POST", self.path, data=self.body, headers={"Content-Type": self.kind})
        return None


class Meetings(Clips):
    """Recordings of minutes."""

    def recording(self) -> tuple[bytes, float]:
        pcm = _pcm(60 * self.options.meeting_minutes)
        return wav(pcm), len(pcm) / 2 / SAMPLE_RATE


class OpenAI(Clips):
    """As OpenAI's clients ask."""

    path, fields = "/v1/audio/transcriptions", {"model": "whisper-1", "response_format": "verbose_json"}


class Batch(_Profile):
    """Several recordings in one request, as tasks that are looked at until they have ended."""

    def on_start(self) -> None:
        super().on_start()
        recording, seconds = _recording(self.options.recording)
        self.audio = seconds * self.options.batch_files
        self.kind, self.body = form(*[recording] * self.options.batch_files, field="files")

    def answer(self) -> tuple[float, ...] | None:
        with self.whole():
            accepted = self.send("POST", f"{API}/batch/async", "Batch: submit", data=self.body,
                                 headers={"Content-Type": self.kind})  # fmt: skip
            for task_id in [each["task_id"] for each in accepted.json()["tasks"]]:
                while self.status(task_id) in ("queued", "processing"):
                    gevent.sleep(_POLL)
                self.send("GET", f"{API}/result/{task_id}", "Batch: result")
        return None

    def status(self, task_id: str) -> str:
        status: str = self.send("GET", f"{API}/status/{task_id}", "Batch: status").json()["status"]["status"]
        return status


class Live(_Profile):
    """Sessions spoken in real time, each from another place of the speech on: people do not all end their sentences at
    the same moment. p95 is of the seconds from a word's end until it is final."""

    def on_start(self) -> None:
        super().on_start()
        pcm, apart = _pcm(self.options.live_seconds), 2 * round(_APART * SAMPLE_RATE)
        begin = next(_speakers) * apart % len(pcm)
        self.pcm = pcm[begin:] + pcm[:begin]
        self.audio = len(self.pcm) / 2 / SAMPLE_RATE

    def answer(self) -> tuple[float, ...] | None:
        with self.whole():
            try:
                return tuple(self.finals())
            except (websocket.WebSocketException, OSError) as error:
                raise Unexpected(f"{type(error).__name__}: {error}") from error
        raise AssertionError("unreachable")  # `whole` raises

    def finals(self) -> Iterator[float]:
        """Of each final word, how late it came."""
        socket = websocket.create_connection(f"{self.host}{API}/stream".replace("http", "ws", 1), timeout=_PATIENCE)
        began = time.monotonic()
        speaking = gevent.spawn(self.speak, socket, began)
        try:
            while (event := self.next_event(socket))["type"] != "done":
                for word in event["words"] if event["type"] == "final" else ():
                    late = time.monotonic() - began - word["end"]
                    self.environment.events.request.fire(
                        request_type="WS", name="Live: final word", response_time=1e3 * late, response_length=0,
                        exception=None, context={},
                    )  # fmt: skip
                    yield late
        finally:
            speaking.kill()
            socket.close()

    def speak(self, socket: websocket.WebSocket, began: float) -> None:
        size = round(_FRAME * SAMPLE_RATE) * 2
        with suppress(websocket.WebSocketException, OSError):  # who reads the events sees why
            for number, start in enumerate(range(0, len(self.pcm), size), 1):
                gevent.sleep(max(0.0, began + number * _FRAME - time.monotonic()))
                socket.send_binary(self.pcm[start : start + size])
            socket.send('{"type": "finish"}')

    @staticmethod
    def next_event(socket: websocket.WebSocket) -> dict[str, Any]:
        text = socket.recv()
        event: dict[str, Any] = json.loads(text) if text else {"type": "error", "message": "the server closed"}
        if event["type"] == "error":
            raise Unexpected(event["message"])
        return event


class Open(Clips):
    """Clips that arrive at a constant rate."""

    concurrency = 1000  # requests at a time; Locust's default, 10, would hold back whom a slow server should meet

    def on_start(self) -> None:
        super().on_start()
        self.next_arrival, self.asked = time.monotonic(), Group()

    def on_stop(self) -> None:
        try:
            self.asked.join()  # those who wait longest count too
        finally:
            self.asked.kill()

    def wait_time(self) -> float:
        self.next_arrival += 1 / self.options.arrivals
        return max(self.next_arrival - time.monotonic(), 0.0)

    def ask(self) -> None:
        self.asked.spawn(super().ask)
