"""`diarserve serve`: the server, from its check of the machine to its end."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import sys
import warnings
from asyncio import AbstractEventLoop
from pathlib import Path

from aiohttp import BadContentDispositionHeader, BadContentDispositionParam

import diarserve
from diarserve.access import tls
from diarserve.access.keyring import require_keys_or_loopback
from diarserve.cli import installation, service_manager, watchdog
from diarserve.core import configuration, descriptors
from diarserve.core.configuration import ConfigError
from diarserve.core.settings import MIB, Settings
from diarserve.http import app, drain
from diarserve.http.connections import LimitedConnections, most_connections, survive_shortage
from diarserve.http.context import SERVICE
from diarserve.http.server import Runner
from diarserve.tasks.store.protocol import StoreError
from workers.runtime import devices, logs, privacy

log = logging.getLogger(__name__)

# What aiohttp says of what clients send. Python remembers every text of a warning, for ever.
_OF_CLIENTS = (BadContentDispositionHeader, BadContentDispositionParam)
_MALLOC = {-1: 32 * MIB, -3: 4 * MIB}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
_LAST_ANSWERS = 1.0  # seconds to write answers out once the workers have ended, and as many again for what is cancelled


def run(config: Path | None, host: str | None, port: int | None, data_dir: Path | None, log_level: str | None) -> int:
    """Until SIGTERM or Ctrl-C. 2 where it cannot start: the log says why. Raises ConfigError, before there is a log."""
    settings = configuration.load(config, host=host, port=port, data_dir=data_dir, log_level=log_level)
    require_keys_or_loopback(settings)
    _make_temporary_folder()
    _keep_memory()
    devices.prepare({})  # the models may run in this process
    privacy.stop_telemetry()
    logs.configure("server", settings.log_level, settings.log_modules)
    for warning in _OF_CLIENTS:
        warnings.filterwarnings("ignore", category=warning)
    missing = [finding for finding in installation.findings(settings) if finding.problem]
    for finding in missing:
        if finding.lane in installation.REQUIRED:
            log.error("it cannot start: %s", finding)
        else:
            log.warning("requests that need it will fail: %s", finding)
    if any(finding.lane in installation.REQUIRED for finding in missing):
        return 2
    tune_interpreter()
    connections = settings.limits.max_connections or most_connections(descriptors.raise_limit(), _workers(settings))
    try:
        return watchdog.run(lambda: _serve(settings, connections), _loop, settings.stop_seconds)
    except (ConfigError, StoreError, OSError) as error:
        log.error("it cannot start: %s", error)
        return 2


async def _serve(settings: Settings, connections: int) -> None:
    """Until cancelled; then requests under way get their time to end."""
    certificate = tls.context(settings.tls)
    application = app.make(settings)
    runner = Runner(
        application,
        handler_cancellation=True,  # a client that has gone wants no answer: its jobs are cancelled
        access_log=None,  # /metrics counts requests
        shutdown_timeout=_LAST_ANSWERS,
    )
    loop = asyncio.get_running_loop()
    survive_shortage(loop)
    await runner.setup()
    assert runner.server
    listening: asyncio.Server | None = None
    try:
        accept = LimitedConnections(runner.server, connections, application[SERVICE].metrics)
        listening = await loop.create_server(accept, settings.host, settings.port, backlog=128, ssl=certificate)
        _announce(listening, settings)
        await service_manager.keep_told(application[SERVICE])  # as long as systemd watches
        await asyncio.Event().wait()
    finally:
        service_manager.tell("STOPPING=1")
        try:
            await drain.stop(application, settings.stop_seconds)
        finally:
            if listening:
                listening.close()
            await runner.cleanup()


def _workers(settings: Settings) -> int:
    lanes = (
        settings.decode,
        settings.whisper,
        *settings.diarizers.values(),
        settings.separate,
        settings.align,
        settings.embed,
    )
    return sum(lane.most_workers for lane in lanes if lane)


def _announce(listening: asyncio.Server, settings: Settings) -> None:
    addresses = [socket.getsockname()[:2] for socket in listening.sockets]
    scheme = "https" if settings.tls.certificate else "http"
    urls = ", ".join(f"{scheme}://{_host(host)}:{port}" for host, port in addresses)
    folder = settings.data_dir.resolve()
    log.info("diarserve %s listens on %s, data in %s", diarserve.__version__, urls, folder)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _loop() -> AbstractEventLoop:
    """uvloop's where it is installed: it costs less CPU for every request."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def tune_interpreter() -> None:
    """Keep the event loop from waiting for the interpreter: answers of recordings of hours are made in threads."""
    sys.setswitchinterval(0.001)  # after 5 ms by default, and one turn of the loop asks for it several times
    gc.collect()
    gc.freeze()  # what is imported stays, and the collector need not look through it again


def _make_temporary_folder() -> None:
    """Where TMPDIR says; in a container it is on the one volume, which is empty at first."""
    if folder := os.environ.get("TMPDIR"):
        Path(folder).mkdir(0o700, parents=True, exist_ok=True)


def _keep_memory() -> None:
    """Have malloc keep what one upload frees for the next. By default the kernel takes the pages back and hands them
    out again, which is a third of what a recording of 30 s costs around its models."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # glibc's own
        for parameter, size in _MALLOC.items():
            mallopt(parameter, size)
