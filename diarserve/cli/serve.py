"""`diarserve serve`: the server, from its check of the machine to its end."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import sys
from asyncio import AbstractEventLoop
from contextlib import suppress
from pathlib import Path

from aiohttp import web

import diarserve
from diarserve.access import tls
from diarserve.cli import installation
from diarserve.core import configuration
from diarserve.core.settings import MIB, Settings
from diarserve.http import app
from diarserve.http.gate import require_keys_or_loopback
from diarserve.http.server import Runner
from workers.runtime import devices, logs, privacy

log = logging.getLogger(__name__)

_MALLOC = {-1: 32 * MIB, -3: 4 * MIB}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h


def run(config: Path | None, host: str | None, port: int | None, data_dir: Path | None, log_level: str | None) -> int:
    """Until SIGTERM or Ctrl-C. Raises ConfigError, StoreError, and OSError where the address is taken."""
    settings = configuration.load(config, host=host, port=port, data_dir=data_dir, log_level=log_level)
    require_keys_or_loopback(settings)
    _keep_memory()
    devices.prepare({})  # the models may run in this process
    privacy.stop_telemetry()
    logs.configure("server", settings.log_level, settings.log_modules)
    missing = [finding for finding in installation.findings(settings) if finding.problem]
    for finding in missing:
        if finding.lane in installation.REQUIRED:
            print(f"diarserve: {finding}", file=sys.stderr)
        else:
            log.warning("requests that need it will fail: %s", finding)
    if any(finding.lane in installation.REQUIRED for finding in missing):
        return 2
    tune_interpreter()
    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(_serve(settings))
    return 0


async def _serve(settings: Settings) -> None:
    certificate = tls.context(settings.tls)
    runner = Runner(
        app.make(settings),
        handler_cancellation=True,  # a client that has gone wants no answer: its jobs are cancelled
        access_log=None,  # /metrics counts requests
        keepalive_timeout=75,  # seconds
    )
    _end_on_signals()
    with suppress(asyncio.CancelledError):
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port, ssl_context=certificate).start()
            _announce(runner, settings)
            await asyncio.Event().wait()  # until a signal
        finally:
            await runner.cleanup()


def _end_on_signals() -> None:
    """The first signal ends the present task in good order, the second one the process at once: its workers end when
    their channels close, and the next start queues again what was being worked on."""
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None
    received: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        received.append(number)
        if len(received) > 1:
            log.warning("ended at once by a second signal")
            os._exit(128 + number)
        this.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)


def _announce(runner: web.AppRunner, settings: Settings) -> None:
    scheme = "https" if settings.tls.certificate else "http"
    addresses = [f"{scheme}://{_host(address[0])}:{address[1]}" for address in runner.addresses]
    folder = settings.data_dir.resolve()
    log.info("diarserve %s listens on %s, data in %s", diarserve.__version__, ", ".join(addresses), folder)


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


def _keep_memory() -> None:
    """Have malloc keep what one upload frees for the next. By default the kernel takes the pages back and hands them
    out again, which is a third of what a recording of 30 s costs around its models."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # glibc's own
        for parameter, size in _MALLOC.items():
            mallopt(parameter, size)
