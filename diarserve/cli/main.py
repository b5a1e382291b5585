"""The command line: serve, transcribe, doctor."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import sys
from asyncio import AbstractEventLoop
from pathlib import Path
from typing import get_args

from diarserve.core import configuration
from diarserve.core.settings import MIB, Settings
from diarserve.core.types import Format
from diarserve.tasks.store.protocol import StoreError
from workers.runtime import devices, logs

_MALLOC = {-1: 32 * MIB, -3: 4 * MIB}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h


def main() -> int:
    parser = argparse.ArgumentParser(prog="diarserve", description="Who said what, over HTTP.")
    parser.add_argument("--config", type=Path, help="a TOML file (default: config/default.toml)")
    commands = parser.add_subparsers(dest="command", required=True)

    serve = commands.add_parser("serve", help="run the HTTP server")
    serve.add_argument("--host")
    serve.add_argument("--port", type=int)
    serve.add_argument("--data-dir", type=Path, help="where uploads, the spool and the task store live")

    transcribe = commands.add_parser("transcribe", help="transcribe one file, without a server")
    transcribe.add_argument("file", type=Path)
    transcribe.add_argument("--format", choices=get_args(Format), default="text")
    transcribe.add_argument("--language")
    transcribe.add_argument("--num-speakers", type=int)

    commands.add_parser("doctor", help="what is installed, which weights are found, which devices")
    for command in (serve, transcribe):
        command.add_argument("--config", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)

    arguments = parser.parse_args()
    try:
        match arguments.command:
            case "serve":
                settings = configuration.load(
                    arguments.config, host=arguments.host, port=arguments.port, data_dir=arguments.data_dir
                )
                return _serve(settings)
            case "transcribe":
                from diarserve.cli.transcribe import run

                return run(arguments)
            case _:
                from diarserve.cli import doctor

                return doctor.report()
    except (configuration.ConfigError, StoreError, OSError) as error:  # OSError: a port that is taken, a full disk
        print(f"diarserve: {error}", file=sys.stderr)
        return 2


def _loop() -> AbstractEventLoop:
    """uvloop's where it is installed: it costs less CPU for every request."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _keep_memory() -> None:
    """Have malloc keep what one upload frees for the next. By default the kernel takes the pages back and hands them
    out again, which is a third of what a recording of 30 s costs around its models."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # glibc's own
        for parameter, size in _MALLOC.items():
            mallopt(parameter, size)


def _serve(settings: Settings) -> int:
    from aiohttp import web

    from diarserve.http import app

    _keep_memory()
    devices.prepare({})  # the models may run in this process
    logs.configure("server", settings.log_level, settings.log_modules)
    web.run_app(
        app.make(settings),
        host=settings.host,
        port=settings.port,
        handler_cancellation=True,  # a client that has gone wants no answer: its jobs are cancelled
        print=None,
        access_log=None,  # /metrics counts requests
        loop=_loop(),
    )
    return 0
