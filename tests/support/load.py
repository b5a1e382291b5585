"""A server process on stand-in engines, and everything that its clients may do, for those who watch it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import aiohttp

from tests.support import callbacks
from tests.support.app import API, CONFIG, TRANSCRIBE, form, wav
from tests.support.prometheus import Prometheus, watching
from tests.support.server import Server, configured

KEY = "dsk_" + "a" * 43
SLOW = CONFIG.replace('Whisper"', 'Whisper"\nstep_seconds = 0.02\nbatch = 2').replace(
    'Diarizer"', 'Diarizer"\nstep_seconds = 0.02'
)


@dataclass(frozen=True)
class Watched:
    server: Server
    prometheus: Prometheus


@contextmanager
def loaded(folder: Path, faster: float = 60) -> Iterator[Watched]:
    """With access keys, clients of every kind, and a Prometheus, for as long as the block lasts."""
    environment = {
        "DIARSERVE_ACCESS_KEYS": f'[{{"name": "app", "role": "admin", "key": "{KEY}"}}]',
        "DIARSERVE_ACCESS_METRICS_PORT": str(_free_port()),
        "DIARSERVE_WEBHOOKS_ALLOW_PRIVATE": "true",
    }
    with (
        configured(SLOW, environment) as server,
        watching(int(environment["DIARSERVE_ACCESS_METRICS_PORT"]), folder, faster) as prometheus,
        callbacks.receiving() as receiver,
        _running(lambda: _clients(server, receiver.url)),
    ):
        yield Watched(server, prometheus)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(make: Callable[[], object]) -> Iterator[None]:
    """A coroutine in a thread, cancelled in the end."""
    loop = asyncio.new_event_loop()
    work: list[asyncio.Task[None]] = []

    def run() -> None:
        asyncio.set_event_loop(loop)
        work.append(loop.create_task(make()))  # type: ignore[arg-type]
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(work[0])

    thread = Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(lambda: work[0].cancel())
        thread.join()
        loop.close()


async def _clients(server: Server, callback: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(server.url, headers=headers) as http, asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(_recordings(http, number))
        group.create_task(_tasks(http, callback))
        group.create_task(_mistakes(http))
        group.create_task(_talk(http))
        group.create_task(_kill_once(server))


async def _recordings(http: aiohttp.ClientSession, number: int) -> None:
    while True:
        async with http.post(TRANSCRIBE, data=form(wav(2 + number))):
            await asyncio.sleep(0.05)


async def _tasks(http: aiohttp.ClientSession, callback: str) -> None:
    while True:
        for priority in ("low", "normal", "high"):
            async with http.post(f"{TRANSCRIBE}/async", data=form(wav(3), priority=priority, callback_url=callback)):
                await asyncio.sleep(0.2)


async def _mistakes(http: aiohttp.ClientSession) -> None:
    while True:
        for data in (form(b"no recording"), form(wav(2, "raise whisper")), form(wav(3, "full whisper"))):
            async with http.post(TRANSCRIBE, data=data):
                await asyncio.sleep(0.5)
        async with http.get(f"{API}/status/none"):
            pass


async def _talk(http: aiohttp.ClientSession) -> None:
    """One live session after the other, at real time."""
    while True:
        async with http.ws_connect(f"{API}/stream") as live:
            for _ in range(20):
                await live.send_bytes(b"\1\0" * 4000)
                await asyncio.sleep(0.25)
            await live.send_str('{"type": "finish"}')
            async for _ in live:
                pass


async def _kill_once(server: Server) -> None:
    """A worker, as the memory killer might."""
    await asyncio.sleep(2)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(server.url, headers=headers) as http, http.get("/stats") as answer:
        lanes = (await answer.json())["lanes"]
    os.kill(lanes["whisper"]["workers"][0]["pid"], signal.SIGKILL)
