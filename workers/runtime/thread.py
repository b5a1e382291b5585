"""A worker in a thread of the server, from its engine to its end. What belongs to the process (limits, signals,
environment, logging, deadlines that exit) is left alone: it is not the worker's. Its environment alone
gets what keeps libraries from telemetry and downloads: they read it when they are imported."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from concurrent.futures import CancelledError, Future

from workers.messages import BootFailed, Ready, WorkerSpec
from workers.runtime import privacy
from workers.runtime.channel import Channel
from workers.runtime.process import make_engine, reason
from workers.runtime.scheduler import Scheduler

log = logging.getLogger(__name__)

# One engine at a time: packages that import each other in a circle do not stand being imported by two threads.
_booting = threading.Lock()


def main(sock: socket.socket, spec: WorkerSpec) -> int:
    """Until the server's end of the channel is closed. Returns what a process would as its exit code."""
    channel = Channel(sock)
    scheduler: Future[Scheduler] = Future()
    reader = threading.Thread(target=_read, args=(channel, scheduler), name=f"{spec.lane}-reader", daemon=True)
    reader.start()
    try:
        return _serve(channel, scheduler, spec)
    except ConnectionError:  # the server went while we answered
        return 0
    except BaseException:  # SystemExit too: an engine's step may end its worker, not the server
        log.exception("the %s worker ended", spec.lane)
        return 1
    finally:
        channel.end()
        scheduler.cancel()  # if there never was one
        reader.join()
        channel.close()


def _serve(channel: Channel, scheduler: Future[Scheduler], spec: WorkerSpec) -> int:
    started = time.monotonic()
    try:
        with _booting:
            _keep_private(spec)
            engine = make_engine(spec)
    except BaseException as error:
        log.exception("the %s engine did not start", spec.lane)
        channel.send(BootFailed(reason(error)))
        return 1
    channel.send(Ready(dict(engine.describe()), time.monotonic() - started))
    scheduler.set_result(Scheduler(engine, channel.send, fill=spec.fill, step_timeout=None))
    try:
        scheduler.result().run()
    finally:
        scheduler.result().close()
    return 0


def _keep_private(spec: WorkerSpec) -> None:
    privacy.stop_telemetry()
    if privacy.offline({**privacy.OFFLINE, **spec.environment}):
        for name, value in privacy.OFFLINE.items():
            os.environ.setdefault(name, value)


def _read(channel: Channel, scheduler: Future[Scheduler]) -> None:
    with contextlib.suppress(CancelledError):
        try:
            while True:
                message = channel.receive()
                scheduler.result().take(message)
        except EOFError:
            scheduler.result().stop()
