"""`make alerts`: every alert fired once by really causing it on a running server, which a Prometheus watches with
config/alerts.yml, its windows shortened `--faster` times. The models are stand-ins; thresholds are as they are."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from bench.results import arguments, publish, table
from tests.support.app import API, CONFIG, TRANSCRIBE, form, wav
from tests.support.prometheus import Prometheus, watching
from tests.support.server import Server, running
from tests.support.waiting import until

_LIMIT = 240.0  # seconds for an alert to fire


@dataclass(frozen=True)
class Scene:
    """A server, and the client that harms it."""

    http: aiohttp.ClientSession
    server: Server
    folder: Path


@dataclass(frozen=True)
class Cause:
    alerts: Sequence[str]
    how: str  # for the table
    harm: Callable[[Scene], Awaitable[None]]  # until it is cancelled


@dataclass(frozen=True)
class Setting:
    """How a server is started for some causes, one after the other. {folder} is where its files may lie."""

    causes: Sequence[Cause]
    config: str = CONFIG
    environment: dict[str, str] = field(default_factory=dict)
    ready: bool = True
    disk: bool = False  # its data directory is a disk of 64 MiB


async def kill_workers(scene: Scene) -> None:
    while True:
        if pids := scene.server.workers()["whisper"]:
            os.kill(pids[0], signal.SIGKILL)
        await post(scene, wav(1))  # done by the next worker, so that its place is not given up


async def fail(scene: Scene) -> None:
    while True:
        await post(scene, wav(1, "raise whisper"))
        await post(scene, wav(1))


async def leave_callbacks(scene: Scene) -> None:
    for _ in range(120):
        await post(scene, wav(1), "/async", callback_url="http://127.0.0.1:9/")
    await asyncio.Event().wait()


async def stop_and_continue(scene: Scene) -> None:
    try:
        while True:
            os.kill(scene.server.pid, signal.SIGSTOP)
            await asyncio.sleep(0.6)
            os.kill(scene.server.pid, signal.SIGCONT)
            await asyncio.sleep(0.4)
    finally:
        os.kill(scene.server.pid, signal.SIGCONT)


async def drain(scene: Scene) -> None:
    async with scene.http.post(f"{API}/drain"):
        pass
    try:
        await asyncio.Event().wait()
    finally:
        async with scene.http.delete(f"{API}/drain"):
            pass


async def kill_server(scene: Scene) -> None:
    os.kill(scene.server.pid, signal.SIGKILL)
    await asyncio.Event().wait()


async def flood(scene: Scene) -> None:
    """Whisper's worker gets no further: a live session waits, two recordings wait, and more are refused."""
    (scene.folder / "gate").touch()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(post(scene, wav(2)))
        group.create_task(_talk(scene))
        while True:
            group.create_task(post(scene, wav(1)))
            await asyncio.sleep(0.2)


async def _talk(scene: Scene) -> None:
    async with scene.http.ws_connect(f"{API}/stream") as live:
        await live.send_bytes(b"\1\0" * 16_000 * 12)
        async for _ in live:
            pass


async def load(scene: Scene) -> None:
    async def client() -> None:
        while True:
            await post(scene, wav(1))

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(client())


async def nothing(scene: Scene) -> None:
    await asyncio.Event().wait()


def fill(left: int) -> Callable[[Scene], Awaitable[None]]:
    """The disk, but for so many MiB."""

    async def harm(scene: Scene) -> None:
        disk = scene.folder / "disk"
        free = os.statvfs(disk)
        (disk / f"other-{left}").write_bytes(bytes(free.f_bavail * free.f_frsize - left * 2**20))
        while True:
            await post(scene, wav(1))
            await asyncio.sleep(0.5)

    return harm


async def post(scene: Scene, data: bytes, path: str = "", **fields: str) -> None:
    with suppress(aiohttp.ClientError):
        async with scene.http.post(TRANSCRIBE + path, data=form(data, **fields)) as answer:
            await answer.read()


SETTINGS = (
    Setting(
        (
            Cause(["DiarserveWorkersCrashLoop"], "the Whisper worker is killed again and again", kill_workers),
            Cause(
                ["DiarserveErrorBudgetBurnsFast", "DiarserveErrorBudgetBurnsSlowly"],
                "the model fails on every other recording",
                fail,
            ),
            Cause(["DiarserveWebhookBacklog"], "120 tasks with a callback to a port that is closed", leave_callbacks),
            Cause(
                ["DiarserveEventLoopLags"],
                "the server's process is stopped for 0.6 s of every second",
                stop_and_continue,
            ),
            Cause(["DiarserveNotReady"], "the server is drained", drain),
            Cause(["DiarserveScrapeFailed"], "the server is killed", kill_server),
        ),
        environment={"DIARSERVE_WEBHOOKS_ALLOW_PRIVATE": "true"},
    ),
    Setting(
        (
            Cause(
                ["DiarserveLiveLags", "DiarserveOverload", "DiarserveQueueTooOld"],
                "Whisper's worker gets no further, a live session speaks, and more recordings come than may wait",
                flood,
            ),
        ),
        CONFIG.replace('Whisper"', 'Whisper"\nwidth = 1\ngate = "{folder}/gate"'),
        {"DIARSERVE_LIMITS_MAX_PENDING": "2"},
    ),
    Setting(
        (
            Cause(
                ["DiarserveOverlapLost", "DiarserveSlowerThanRealTime"],
                "parallel_processing = false, and a model that takes 2 s for a second",
                load,
            ),
        ),
        CONFIG.replace('Whisper"', 'Whisper"\nstep_seconds = 2').replace('Diarizer"', 'Diarizer"\nstep_seconds = 0.2'),
        {"DIARSERVE_PARALLEL_PROCESSING": "false"},
    ),
    Setting(
        (Cause(["DiarserveLaneHalted"], "the diarizer's model is not there", nothing),),
        CONFIG.replace('Diarizer"', 'Diarizer"\nboot = "fail"'),
        ready=False,
    ),
    Setting(
        (
            Cause(["DiarserveDiskFilling"], "another's file fills a disk of 64 MiB, but for 12", fill(12)),
            Cause(["DiarserveDiskFull"], "... but for 4, where 8 are to be kept free", fill(4)),
        ),
        environment={"DIARSERVE_LIMITS_MIN_FREE_MIB": "8", "DIARSERVE_LIMITS_RESERVE_MIB": "1"},
        disk=True,
    ),
)
NOT_CAUSED = {"DiarserveGpuMemoryFull": "needs a GPU: `promtool test rules` alone"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faster", type=float, default=60, help="how much windows and waits are shortened")
    asked = arguments(parser)
    rows: list[list[object]] = []
    for setting in SETTINGS:
        if setting.disk and os.geteuid() != 0:
            rows += [[alert, f"{cause.how}: needs root", "-"] for cause in setting.causes for alert in cause.alerts]
            continue
        rows += asyncio.run(fired(setting, asked.faster))
    rows += [[alert, why, "-"] for alert, why in NOT_CAUSED.items()]
    body = f"Windows and waits {asked.faster:g} times as short, scraped every second. Seconds from cause to alert.\n\n"
    publish("alerts", "Alerts, caused", body + table(["alert", "cause", "seconds"], rows), {"alerts": rows}, asked)
    if missing := [row for row in rows if row[2] == "not fired"]:
        raise SystemExit(f"not fired: {missing}")


async def fired(setting: Setting, faster: float) -> list[list[object]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(started(setting, folder))
        prometheus = stack.enter_context(watching(server.port, folder, faster))
        async with aiohttp.ClientSession(server.url) as http:
            return [
                row for cause in setting.causes for row in await caused(cause, Scene(http, server, folder), prometheus)
            ]


@contextmanager
def started(setting: Setting, folder: Path) -> Iterator[Server]:
    (folder / "config.toml").write_text(setting.config.replace("{folder}", str(folder)))
    arguments = ["--config", str(folder / "config.toml")]
    with ExitStack() as stack:
        if setting.disk:
            (folder / "disk").mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder / "disk"], check=True)
            stack.callback(lambda: subprocess.run(["umount", "-l", folder / "disk"], check=True))
            arguments += ["--data-dir", str(folder / "disk" / "data")]
        environment = {"PYTHONPATH": os.getcwd(), **setting.environment}
        yield stack.enter_context(running(environment, arguments=arguments, wait_ready=setting.ready))


async def caused(cause: Cause, scene: Scene, prometheus: Prometheus) -> list[list[object]]:
    await until(lambda: not prometheus.firing() & set(cause.alerts), _LIMIT)  # of what was done before
    began, seconds = time.monotonic(), dict.fromkeys(cause.alerts, "not fired")
    harm = asyncio.ensure_future(cause.harm(scene))
    try:
        while "not fired" in seconds.values() and time.monotonic() - began < _LIMIT and not harm.done():
            await asyncio.sleep(0.5)
            for alert in await asyncio.to_thread(prometheus.firing):
                if seconds.get(alert) == "not fired":
                    seconds[alert] = f"{time.monotonic() - began:.0f}"
                    print(alert, seconds[alert], flush=True)
        if harm.done():
            harm.result()
    finally:
        (scene.folder / "gate").unlink(missing_ok=True)
        harm.cancel()
        with suppress(asyncio.CancelledError, ExceptionGroup):
            await harm
    return [[alert, cause.how, seconds[alert]] for alert in cause.alerts]


if __name__ == "__main__":
    main()
