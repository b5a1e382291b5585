"""`make store-rate`: what a cluster's shared parts take. Lives of tasks a second in PostgreSQL, by how many servers ask
and how long the queue is, with the CPU seconds on both sides; and the server's CPU seconds for sending a recording to
an S3 server and fetching it. PostgreSQL is that of the tests: a Unix socket, fsync off."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from bench.results import arguments, publish, table
from diarserve.core.types import PRIORITIES
from diarserve.tasks.store.objects import Objects
from diarserve.tasks.store.postgres import PostgresStore
from diarserve.tasks.store.protocol import Changed, NewTask, Report, StoreError, TaskProgress
from diarserve.tasks.wakeups import Wakeups
from tests.support.postgresql import Postgresql, running
from tests.support.waiting import until

DOCUMENT = 5_000  # bytes: a minute of speech
AT_ONCE = 8  # lives of each server
RUNNING = 32  # tasks of one server
WOKEN = (2, 8, 32)  # servers that wait for a task
ROOM = dict.fromkeys(PRIORITIES, 4)  # of an idle server
ARRIVE = 0.1  # seconds between two tasks
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--mib", type=int, default=256, help="of recordings that are sent")
    asked = arguments(parser)
    with tempfile.TemporaryDirectory(prefix="diarserve-bench-") as name, running() as database:
        cases = [(1, 0), (4, 0), (4, asked.queued)]
        lives = [asyncio.run(_lives(database, Path(name), *case, asked.seconds)) for case in cases]
        told = [asyncio.run(_told(database, Path(name), heard, asked.seconds)) for heard in (False, True)]
        vain = asyncio.run(_vain(database, Path(name), asked.seconds))
        woken = [asyncio.run(_woken(database, Path(name), servers)) for servers in WOKEN]
    sent = _sent(asked.mib)
    load = os.getloadavg()[0]
    rows = [
        [each["servers"], each["queued"], *(f"{each[key]:{form}}" for key, form in _FORMS.items())] for each in lives
    ]
    asked_for = [[each["servers"], f"{each['claims']:.1f}", f"{each['wait_ms']:.0f}"] for each in woken]
    mine, both = (f"{each['server_cpu_ms']:.3f}" for each in told)
    body = f"""
A life: added, claimed, reported on once, completed with {DOCUMENT} bytes, read; {AT_ONCE} at a time for each server,
all servers in one process. Load of the machine: {load:.1f}.

{table(["servers", "queued", "lives/s", "server CPU ms", "PostgreSQL CPU ms"], rows)}

| | server CPU | PostgreSQL CPU |
| --- | ---: | ---: |
| a claim of all priorities where no task waits, ms | {vain["server_cpu_ms"]:.2f} | {vain["database_cpu_ms"]:.2f} |
| progress and news of a task, {RUNNING} in one call, ms | {mine} | {told[0]["database_cpu_ms"]:.3f} |
| the same, where another server hears of it: both servers, ms | {both} | |
| a GiB sent to the object store, s | {sent["put_cpu_per_gib"]:.2f} | |
| a GiB fetched from it, s | {sent["get_cpu_per_gib"]:.2f} | |

Idle servers, and a task every {ARRIVE} s: how many ask for it, and how long it waits (median).

{table(["servers", "claims for a task", "ms until it is claimed"], asked_for)}

The object store is moto, over HTTP without TLS, on the same two cores: its speed says nothing.
"""
    publish(
        "store",
        "A cluster's store",
        body,
        {"lives": lives, "vain": vain, "woken": woken, "told": told, "sent": sent, "load": load},
        asked,
    )


_FORMS = {"rate": ".0f", "server_cpu_ms": ".2f", "database_cpu_ms": ".2f"}


async def _lives(database: Postgresql, folder: Path, servers: int, queued: int, seconds: float) -> dict[str, Any]:
    database.empty()
    objects = Objects.open(f"file://{folder}/objects")
    objects._folder = None  # a folder's objects are synced to its disk, which S3 would not be our affair
    stores = [await PostgresStore.open(database.url, objects) for _ in range(servers)]
    if queued:
        await stores[0].add([_new(f"waits-{number}") for number in range(queued)])
    numbers, done = count(), 0

    async def live(store: PostgresStore, end: float) -> None:
        nonlocal done
        while time.monotonic() < end:
            await store.add([_new(f"lives-{next(numbers)}")])
            for row in await store.claim({"normal": 1}):
                half = Report(row.id, row.attempts, TaskProgress({"transcribe": 0.5}), 0, [b"news"])
                await store.report([half])
                took = {"audio_seconds": 60.0, "processing_seconds": 1.0}
                ended = await store.complete(row.id, row.attempts, bytes(DOCUMENT), **took)
                done += ended
                await store.get(row.id)

    async def all_of_them(seconds: float) -> None:
        end = time.monotonic() + seconds
        await asyncio.gather(*(live(store, end) for store in stores for _ in range(AT_ONCE)))

    await all_of_them(1.0)  # until the connections are there
    done = 0
    begun, ours, theirs = time.monotonic(), time.process_time(), _database_cpu(database)
    await all_of_them(seconds)
    took = time.monotonic() - begun
    result = {
        "servers": servers,
        "queued": queued,
        "rate": done / took,
        "server_cpu_ms": 1000 * (time.process_time() - ours) / done,
        "database_cpu_ms": 1000 * (_database_cpu(database) - theirs) / done,
    }
    for store in stores:
        await store.close()
    return result


async def _vain(database: Postgresql, folder: Path, seconds: float) -> dict[str, float]:
    database.empty()
    store = await PostgresStore.open(database.url, Objects.open(f"file://{folder}/objects"))
    claims, begun = 0, time.monotonic()
    ours, theirs = time.process_time(), _database_cpu(database)
    while time.monotonic() < begun + seconds:
        await store.claim(ROOM)
        claims += 1
    result = {
        "server_cpu_ms": 1000 * (time.process_time() - ours) / claims,
        "database_cpu_ms": 1000 * (_database_cpu(database) - theirs) / claims,
    }
    await store.close()
    return result


async def _woken(database: Postgresql, folder: Path, servers: int, tasks: int = 60) -> dict[str, float]:
    """Idle servers, and a task now and then: how many ask for it, and how long it waits."""
    database.empty()
    objects = Objects.open(f"file://{folder}/objects")
    stores = [await PostgresStore.open(database.url, objects) for _ in range(servers)]
    claims, waits, added = 0, list[float](), dict[str, float]()
    connected = [asyncio.Event() for _ in stores]

    async def serve(store: PostgresStore, connected: asyncio.Event) -> None:
        nonlocal claims
        wake = asyncio.Event()
        wakeups = Wakeups(wake.set, lambda: 0)

        def heard(change: Changed) -> None:
            connected.set()
            wakeups.hear(change)

        async with asyncio.TaskGroup() as group:
            group.create_task(store.listen(heard))
            while True:
                await wake.wait()
                wake.clear()
                claims += 1
                for row in await store.claim(ROOM):
                    waits.append(time.monotonic() - added[row.id])

    serving = [asyncio.create_task(serve(*each)) for each in zip(stores, connected, strict=True)]
    await asyncio.gather(*(event.wait() for event in connected))
    await asyncio.sleep(1.0)
    claims = 0
    for number in range(tasks):
        added[f"woken-{number}"] = time.monotonic()
        await stores[number % servers].add([_new(f"woken-{number}")])
        await asyncio.sleep(ARRIVE)
    await until(lambda: len(waits) == tasks)
    for task in serving:
        task.cancel()
    await asyncio.wait(serving)
    for store in stores:
        await store.close()
    return {"servers": servers, "claims": claims / tasks, "wait_ms": 1000 * statistics.median(waits)}


async def _told(database: Postgresql, folder: Path, heard: bool, seconds: float) -> dict[str, float]:
    database.empty()
    objects = Objects.open(f"file://{folder}/objects")
    teller, hearer = [await PostgresStore.open(database.url, objects) for _ in range(2)]
    await teller.add([_new(f"told-{number}") for number in range(RUNNING)])
    rows = await teller.claim({"normal": RUNNING})
    listening = asyncio.create_task(hearer.listen(lambda changed: None)) if heard else None
    told, begun = 0, time.monotonic()
    ours, theirs = time.process_time(), _database_cpu(database)
    while time.monotonic() < begun + seconds:
        half = TaskProgress({"transcribe": told / 1e6})
        await teller.report([Report(row.id, row.attempts, half, told, [bytes(500)]) for row in rows])
        told += 1
    result = {
        "server_cpu_ms": 1000 * (time.process_time() - ours) / told / RUNNING,
        "database_cpu_ms": 1000 * (_database_cpu(database) - theirs) / told / RUNNING,
    }
    if listening:
        listening.cancel()
        await asyncio.wait([listening])
    for store in (teller, hearer):
        await store.close()
    return result


def _new(id: str) -> NewTask:
    return NewTask(id, f"{id}.wav", {}, "normal")


def _database_cpu(database: Postgresql) -> float:
    """CPU seconds of PostgreSQL's processes that there are."""
    folder = database.url.partition("host=")[2].partition("&")[0]
    total = 0.0
    for process in psutil.process_iter(["cmdline", "name"]):
        if process.info["name"] == "postgres" and process.ppid() in {os.getpid(), *_postmasters(folder)}:
            total += sum(process.cpu_times()[:2])
    return total


def _postmasters(folder: str) -> set[int]:
    return {int((Path(folder) / "data" / "postmaster.pid").read_text().split()[0])}


def _sent(mib: int) -> dict[str, float]:
    with _s3() as environment, patch.dict(os.environ, environment):
        return asyncio.run(_through(mib))


async def _through(mib: int) -> dict[str, float]:
    objects = Objects.open("s3://recordings/tasks")
    with tempfile.TemporaryDirectory(prefix="diarserve-bench-") as name:
        file = Path(name) / "recording"
        file.write_bytes(os.urandom(MIB) * 64)
        begun = time.process_time()
        for number in range(mib // 64):
            await objects.put_file(f"{number}", file)
        put, begun = time.process_time() - begun, time.process_time()
        for number in range(mib // 64):
            [found] = [each async for each in objects.under("") if each.key.endswith(f"{number}")]
            await objects.fetch(found, Path(name) / f"fetched-{number}", lambda _: nullcontext())
        got = time.process_time() - begun
    return {"put_cpu_per_gib": put * 1024 / mib, "get_cpu_per_gib": got * 1024 / mib}


@contextmanager
def _s3() -> Any:
    """moto in a process of its own, so that its CPU time is not ours."""
    program = """
import sys, urllib.request
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
address = "http://%s:%d" % server.get_host_and_port()
urllib.request.urlopen(urllib.request.Request(address + "/recordings", method="PUT")).close()
print(address, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise StoreError("moto did not start")
            yield {
                "AWS_ACCESS_KEY_ID": "somebody",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": address,
            }
        finally:
            process.kill()


if __name__ == "__main__":
    main()
