"""A worker process, from its start to its exit: limits, the engine, Ready, then jobs until the server goes.

python -m workers.runtime.process 7 8 9    # its end of the channel is open as descriptor 7, where its spec comes
                                           # first; jobs' files come to 8 (workers.runtime.job_files); its log goes to
                                           # 9, since the server takes in what it prints
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import logging
import os
import re
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

from workers.engine import Engine
from workers.messages import BootFailed, Ready, Submit, WorkerSpec
from workers.runtime import devices, engines, jail, logs, model_files, privacy
from workers.runtime.channel import Channel
from workers.runtime.job_files import JobFiles
from workers.runtime.scheduler import Scheduler

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_NICE = 5  # the event loop gets a core before the models do


def main(descriptor: int, files_descriptor: int, log_descriptor: int) -> None:
    """Never returns. Interpreters are not taken down: libraries' threads may be in the midst of a step."""
    started = time.monotonic()
    _die_with_parent()
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        spec = channel.receive()
    except EOFError:  # the server is gone already
        os._exit(0)
    assert isinstance(spec, WorkerSpec)
    os.umask(0o077)  # what an engine writes is for this user alone
    os.nice(_NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the server, which ends us in good order
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    devices.prepare(spec.options)
    model_files.forbid_code()
    if privacy.offline():
        privacy.refuse_network()
    log = os.fdopen(log_descriptor, "w", encoding="ascii")
    logs.configure(spec.lane, spec.log_level, spec.log_modules, log)
    faulthandler.enable()  # the server logs where a library crashed
    _limit(resource.RLIMIT_FSIZE, spec.file_limit)
    _limit(resource.RLIMIT_CORE, 0)
    try:
        with _ending_with(channel):
            engine = make_engine(spec)
    except BaseException as error:
        logging.exception("the engine did not start")
        with contextlib.suppress(BrokenPipeError):
            channel.send(BootFailed(reason(error)))
        os._exit(1)
    _limit(resource.RLIMIT_AS, spec.memory_limit)
    if engine.jailed:
        _enter_jail(engine, spec)
    scheduler: Future[Scheduler] = Future()
    files = JobFiles(socket.socket(fileno=files_descriptor), wanted=engine.jailed)
    threading.Thread(target=_read, args=(channel, files, scheduler), daemon=True).start()
    channel.send(Ready(dict(engine.describe()), time.monotonic() - started))
    try:
        scheduler.set_result(Scheduler(engine, channel.send, fill=spec.fill, step_timeout=spec.step_timeout))
        scheduler.result().run()
    except BrokenPipeError:  # the server went while we answered
        os._exit(0)
    except BaseException:
        logging.exception("the worker ends")
    os._exit(1)


@contextlib.contextmanager
def _ending_with(channel: Channel) -> Iterator[None]:
    """While the engine is made, end when the server does. The thread that watches is gone afterwards."""
    done, tell = os.pipe()
    watcher = threading.Thread(target=_watch, args=(channel, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        os.close(tell)
        watcher.join()
        os.close(done)


def _watch(channel: Channel, done: int) -> None:
    polled = select.poll()
    polled.register(done, 0)  # its other end is closed
    polled.register(channel.fileno(), select.POLLIN)  # nothing comes before Ready, but the end
    if any(descriptor == channel.fileno() for descriptor, _ in polled.poll()):
        os._exit(0)


def _enter_jail(engine: Engine, spec: WorkerSpec) -> None:
    others = _other_threads()
    engine.jail = jail.enter(spec.open_files)
    if lacking := jail.missing(engine.jail):
        logging.warning("this kernel does not confine the %s worker by: %s", spec.lane, ", ".join(lacking))
    if others:
        logging.warning("%d threads of the %s worker may read and write files elsewhere", others, spec.lane)
    logging.info("jailed: %s", ", ".join(f"{name}: {value}" for name, value in engine.jail.items()))


def _other_threads() -> int:
    """Those of libraries. One that was joined may take a moment to be gone."""
    for _ in range(100):
        if (threads := len(os.listdir("/proc/self/task"))) == 1:
            break
        time.sleep(0.001)
    return threads - 1


def _read(channel: Channel, files: JobFiles, scheduler: Future[Scheduler]) -> None:
    """Give messages to the scheduler. When the server is gone the process ends at once, whatever its steps do."""
    try:
        while True:
            message = channel.receive()
            if isinstance(message, Submit):
                message = files.attach(message)
            scheduler.result().take(message)
    except EOFError:
        os._exit(0)
    except BaseException:
        logging.exception("the worker ends")
        os._exit(1)


def _die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends, as the server's does with the server. The
    channel's end tells too, but not a process that is stopped (SIGSTOP) or hangs with the interpreter's lock."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def make_engine(spec: WorkerSpec) -> Engine:
    engine: Engine = engines.start(spec.engine, spec.options)
    return engine


def _limit(which: int, value: int | None) -> None:
    if value is not None:
        resource.setrlimit(which, (value, value))


def reason(error: BaseException) -> str:
    """One line for the operator, who may read it over HTTP: files without their folders."""
    text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return re.sub(r"/(?:[^\s/'\"]+/)+", "", text)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
