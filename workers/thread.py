"""A worker in a thread of the server, from its engine to its end. What belongs to the process (limits, signals,
environment, logging, deadlines that exit) is left alone: it is not the worker's."""

from __future__ import annotations

import logging
import socket
import threading
import time
from queue import SimpleQueue

from workers.channel import Channel
from workers.messages import BootFailed, Ready, WorkerSpec
from workers.process import make_engine, reason
from workers.scheduler import STOP, Scheduler

log = logging.getLogger(__name__)

# One engine at a time: packages that import each other in a circle do not stand being imported by two threads.
_booting = threading.Lock()


def main(sock: socket.socket, spec: WorkerSpec) -> int:
    """Until the server's end of the channel is closed. Returns what a process would as its exit code."""
    channel = Channel(sock)
    inbox: SimpleQueue[object] = SimpleQueue()
    reader = threading.Thread(target=_read, args=(channel, inbox), name=f"{spec.lane}-reader", daemon=True)
    reader.start()
    try:
        return _serve(channel, inbox, spec)
    except ConnectionError:  # the server went while we answered
        return 0
    except BaseException:  # SystemExit too: an engine's step may end its worker, not the server
        log.exception("the %s worker ended", spec.lane)
        return 1
    finally:
        channel.end()
        reader.join()
        channel.close()


def _serve(channel: Channel, inbox: SimpleQueue[object], spec: WorkerSpec) -> int:
    started = time.monotonic()
    try:
        with _booting:
            engine = make_engine(spec)
    except BaseException as error:
        log.exception("the %s engine did not start", spec.lane)
        channel.send(BootFailed(reason(error)))
        return 1
    channel.send(Ready(dict(engine.describe()), time.monotonic() - started))
    scheduler = Scheduler(engine, inbox, channel.send, fill=spec.fill, step_timeout=None)
    try:
        scheduler.run()
    finally:
        scheduler.close()
    return 0


def _read(channel: Channel, inbox: SimpleQueue[object]) -> None:
    try:
        while True:
            inbox.put(channel.receive())
    except EOFError:
        inbox.put(STOP)
