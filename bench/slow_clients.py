"""What slow clients cost a normal one: `python -m bench.slow_clients`.

One client sends short recordings, one after the other, to a server without models: alone, then beside connections that
send nothing and uploads at 20 kB/s, in turn, so that whatever else the machine does falls on both. The slow ones come
from as many addresses as they are, so that no limit by client keeps them away.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import requests

from bench.clients import Connection, silence, upload
from bench.overhead import NOTHING
from bench.results import arguments, percentile, publish, table, verdict
from tests.support.server import configured

IDLE, UPLOADS, RATE = 500, 100, 20_000  # connections, uploads, bytes per second of each upload
_PAUSE = 0.1  # seconds between the pieces of a slow upload
_SLOW_SECONDS = 3600  # of silence in a slow upload: more than it gets to send


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000, help="of the normal client, alone and again beside them")
    parser.add_argument("--rounds", type=int, default=5)
    asked = arguments(parser)
    with configured(NOTHING, {"DIARSERVE_LIMITS_MAX_UPLOAD_MIB": "4096"}) as server:
        alone, beside = asyncio.run(measured(server.port, asked.requests, asked.rounds))
    publish("slow_clients", "Slow clients", report(alone, beside), {"alone": alone, "beside": beside}, asked)


async def measured(port: int, count: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each request, alone and beside slow clients. Raises RuntimeError for any status but 200."""
    alone: list[float] = []
    beside: list[float] = []
    await normal(port, 50)  # warm
    for _ in range(rounds):
        alone += await normal(port, count // rounds)
        async with slow_clients(port):
            await _require_uploads(port)
            beside += await normal(port, count // rounds)
    return alone, beside


async def normal(port: int, count: int) -> list[float]:
    connection, request = await Connection.open(port), upload(silence(1))
    try:
        return [round(await connection.ask(request), 6) for _ in range(count)]
    finally:
        connection.close()


@asynccontextmanager
async def slow_clients(port: int) -> AsyncIterator[None]:
    opened = [await _from_own_address(port, number) for number in range(IDLE + UPLOADS)]
    whole = memoryview(upload(silence(_SLOW_SECONDS)))
    sending = [asyncio.create_task(_send_slowly(writer, whole)) for writer in opened[IDLE:]]
    await asyncio.sleep(1)  # until all are under way
    try:
        yield
    finally:
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        for writer in opened:
            writer.transport.abort()
        for writer in opened:
            with suppress(OSError):
                await writer.wait_closed()


async def _require_uploads(port: int) -> None:
    """Raises RuntimeError unless all slow uploads are under way."""
    url = f"http://127.0.0.1:{port}/metrics"
    metrics = (await asyncio.to_thread(requests.get, url, timeout=10)).text
    if f"diarserve_uploads {float(UPLOADS)}" not in metrics:
        raise RuntimeError("not all slow uploads are under way")


async def _from_own_address(port: int, number: int) -> asyncio.StreamWriter:
    address = f"127.0.{1 + number // 200}.{1 + number % 200}"
    return (await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0)))[1]


async def _send_slowly(writer: asyncio.StreamWriter, whole: memoryview) -> None:
    piece = int(RATE * _PAUSE)
    for at in range(0, len(whole), piece):
        writer.write(whole[at : at + piece])
        await writer.drain()
        await asyncio.sleep(_PAUSE)


def report(alone: Sequence[float], beside: Sequence[float]) -> str:
    rows = [
        [name, len(seconds), *(f"{1e3 * percentile(seconds, share):.1f}" for share in (0.5, 0.95, 0.99))]
        for name, seconds in (("alone", alone), (f"beside {IDLE} idle and {UPLOADS} slow", beside))
    ]
    times = percentile(beside, 0.95) / percentile(alone, 0.95)
    head = ["one normal client, one second of audio, ms", "answers, all 200", "p50", "p95", "p99"]
    return table(head, rows) + "\n\n" + verdict("p95 beside slow clients, times that alone", times, 1.5, most=True)


if __name__ == "__main__":
    main()
