"""Situations in which a server is told to stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil
import requests
from websockets.sync.client import ClientConnection, connect

from tests.support.app import wav
from tests.support.server import API
from tests.support.stopping import Process, Request
from tests.support.waiting import wait_until
from workers.messages import SAMPLE_RATE

TWICE = (signal.SIGTERM, signal.SIGTERM)

Arrange = Callable[[Process], None]


def _idle(server: Process) -> None:
    server.wait_ready()


def _starting(server: Process) -> None:
    wait_until(lambda: len(server.family()) >= 3)


def _request(server: Process) -> None:
    server.wait_ready()
    Request(server, "endless whisper")
    server.wait_jobs()


def _upload(server: Process) -> None:
    server.wait_ready()
    client = socket.create_connection(("127.0.0.1", server.port))
    server.clients.enter_context(client)
    head = f"POST {API}/transcribe HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
    part = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    client.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n{part}".encode() + wav(2))
    wait_until(lambda: any((server.folder / "data" / "spool").glob("*")))


def _durable(server: Process) -> None:
    server.wait_ready()
    server.submit("endless whisper")
    server.wait_jobs()


def _watcher(server: Process) -> None:
    server.wait_ready()
    id = server.submit("endless whisper")
    events = requests.get(f"{server.url}{API}/events/{id}", stream=True, timeout=120)
    server.clients.enter_context(events)
    assert next(events.iter_lines())


def live_session(server: Process) -> ClientConnection:
    """That has heard two seconds, and whose client keeps it open."""
    server.wait_ready()
    session = connect(f"ws://127.0.0.1:{server.port}{API}/stream")
    server.clients.callback(session.close)
    session.send(struct.pack("<h", 1) * 2 * SAMPLE_RATE)
    while json.loads(session.recv(60))["type"] != "final":
        pass
    return session


def _live(server: Process) -> None:
    live_session(server)


def _stopped_worker(server: Process) -> None:
    _request(server)
    for pid in server.workers().values():
        os.kill(pid, signal.SIGSTOP)


def _unkillable_worker(server: Process) -> None:
    """As one that waits for a driver or a network disk, which no signal ends: it is stopped, and not killed."""
    _stopped_worker(server)
    (server.folder / "kills-fail").touch()


def _full_disk(server: Process) -> None:
    _durable(server)
    psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_FSIZE, (0, 0))


def _hung_store(server: Process) -> None:
    _durable(server)
    (server.folder / "store-hangs").touch()


def _hung_loop(server: Process) -> None:
    server.wait_ready()
    (server.folder / "spool-hangs").touch()
    Request(server, "")
    wait_until(lambda: _does_not_answer(server.url))


def _does_not_answer(url: str) -> bool:
    try:
        requests.get(url + "/livez", timeout=1)
    except requests.Timeout:
        return True
    return False


@dataclass(frozen=True)
class Situation:
    arrange: Arrange
    code: int = 0  # after one signal
    config: str = ""


SITUATIONS: Mapping[str, Situation] = {
    "nothing under way": Situation(_idle),
    "models loading": Situation(_starting, config='boot = "hang"'),
    "a request under way": Situation(_request),
    "an upload under way": Situation(_upload),
    "a durable task under way": Situation(_durable),
    "a watcher of events": Situation(_watcher),
    "a live session": Situation(_live),
    "workers stopped (SIGSTOP)": Situation(_stopped_worker),
    "workers that cannot be killed": Situation(_unkillable_worker),
    "disk full": Situation(_full_disk),
    "store hangs": Situation(_hung_store, code=1),
    "event loop hangs": Situation(_hung_loop, code=1),
}
