"""`diarserve backup`, `restore` and `drain`."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

import diarserve
from diarserve.cli.addresses import own_url
from diarserve.cli.command import Failure
from diarserve.cli.connect import asking
from diarserve.client.connection import Connection
from diarserve.core import configuration
from diarserve.core.settings import Settings
from diarserve.tasks import backup_archive
from diarserve.tasks import restore as restoring
from diarserve.tasks.backup import without_server
from diarserve.tasks.backup_archive import BackupError
from workers.media.private_files import create_private

_POLL = 1.0  # seconds
_SNAPSHOT = 3600.0  # seconds in which the server has copied a store

T = TypeVar("T")


class _DrainState(Struct):
    draining: bool
    requests: int
    live_sessions: int
    tasks: int
    queued: int

    @property
    def under_way(self) -> int:
        return self.requests + self.live_sessions + self.tasks


def backup(
    config: Path | None, file: Path, server: str | None, api_key: str | None, *, offline: bool, data_dir: Path | None
) -> int:
    """Raises ConfigError, Failure, StoreError and OSError."""
    settings = configuration.load(config, data_dir=data_dir)
    part = file.with_name(f"{file.name}.part")
    try:
        if offline:
            _write_offline(settings, part)
        else:
            _run(_download(server or own_url(settings), api_key, part))
        made = backup_archive.check(part)  # what is read back is what can be restored
        part.replace(file)
    except BackupError as error:
        raise Failure(f"the backup is not whole: {error}") from error
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    _say(f"{file}: {file.stat().st_size / 1e6:.1f} MB, by diarserve {made.diarserve}, whole and readable")
    return 0


def restore(config: Path | None, file: Path, data_dir: Path | None, *, replace: bool) -> int:
    """Raises ConfigError, Failure, StoreError and OSError."""
    settings = configuration.load(config, data_dir=data_dir)
    try:
        done = restoring.restore(file, settings, replace=replace)
    except BackupError as error:
        raise Failure(f"{file}: {error}") from error
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(done.made.created))
    keys = "access keys, " if done.keys else ""
    _say(f"{settings.data_dir.resolve()} is as it was {made}: {done.tasks} tasks, {keys}{done.voices} voices")
    if done.unfinished:
        _say(f"{done.unfinished} tasks had not ended: the next server goes on with them")
    return 0


def drain(config: Path | None, server: str | None, api_key: str | None, *, end: bool, timeout: float | None) -> int:
    """Raises ConfigError and Failure."""
    url = server or own_url(configuration.load(config))
    return _run(_resume(url, api_key) if end else _drain(url, api_key, math.inf if timeout is None else timeout))


async def _drain(url: str, api_key: str | None, patience: float) -> int:
    deadline = time.monotonic() + patience
    async with _connected(url, api_key) as connection:
        state = await connection.ask(_DrainState, "POST", "/drain")
        while state.under_way and time.monotonic() < deadline:
            _say(
                f"under way: {state.requests} requests, {state.live_sessions} live sessions, {state.tasks} tasks; "
                f"{state.queued} tasks stay queued"
            )
            await asyncio.sleep(min(_POLL, max(deadline - time.monotonic(), 0)))
            state = await connection.ask(_DrainState, "GET", "/drain")
    if not state.draining:
        raise Failure("somebody else has ended the drain, or the server was started anew")
    if state.under_way:
        raise Failure("it is drained, but work is still under way", hint="`diarserve drain` goes on waiting.")
    _say(f"nothing is under way; {state.queued} tasks stay queued. Stop the server now, or `diarserve drain --end`.")
    return 0


async def _resume(url: str, api_key: str | None) -> int:
    async with _connected(url, api_key) as connection:
        await connection.ask(_DrainState, "DELETE", "/drain")
    _say("the server takes work again")
    return 0


async def _download(url: str, api_key: str | None, file: Path) -> None:
    async with _connected(url, api_key) as connection:
        with create_private(file) as out:
            async with connection.streamed("/backup", "POST", silence=_SNAPSHOT) as chunks:
                async for chunk in chunks:
                    out.write(chunk)
            out.flush()
            os.fsync(out.fileno())


def _write_offline(settings: Settings, file: Path) -> None:
    with without_server(settings, diarserve.__version__) as files, create_private(file) as out:
        for chunk in backup_archive.chunks(files):
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())


@asynccontextmanager
async def _connected(url: str, api_key: str | None) -> AsyncIterator[Connection]:
    connection = Connection(url, api_key, patience=0.0, tls=None)
    try:
        yield connection
    finally:
        await connection.close()


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Raises Failure."""
    with asking():
        return asyncio.run(work)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
