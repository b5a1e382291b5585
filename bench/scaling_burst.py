"""A burst of recordings at a lane that is scaled: how it grows, how idleness shrinks it, and that every job is done.

Stand-in engines in real worker processes, whose steps sleep as a GPU's caller would (tests/support/standins.py).

    python -m bench.scaling_burst --write
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

import aiohttp

from bench import results
from tests.support.app import TRANSCRIBE, wav
from tests.support.server import Server, configured
from tests.support.waiting import until

_CONFIG = """
separate = false
[limits]
running = 64
[decode]
engine = "tests.support.standins:Copier"
width = 64
[whisper]
engine = "tests.support.standins:Whisper"
step_seconds = {step}
width = 2
min_workers = 1
max_workers = {most}
grow_after = {grow_after}
shrink_after = {shrink_after}
[embedded]
engine = "tests.support.standins:Diarizer"
width = 64
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--seconds", type=int, default=10, help="steps of each job")
    parser.add_argument("--step", type=float, default=0.2, help="seconds that one takes")
    parser.add_argument("--most", type=int, default=8, help="workers")
    parser.add_argument("--grow-after", type=float, default=1.0)
    parser.add_argument("--shrink-after", type=float, default=10.0)
    asked = results.arguments(parser)
    config = _CONFIG.format(
        step=asked.step, most=asked.most, grow_after=asked.grow_after, shrink_after=asked.shrink_after
    )
    with configured(config) as server:
        figures = asyncio.run(measure(server, asked))
    results.publish("scaling_burst", "Scaling of a lane: a burst, and idleness", report(figures, asked), figures, asked)


async def measure(server: Server, asked: argparse.Namespace) -> dict[str, Any]:
    samples: list[dict[str, float]] = []
    began = time.monotonic()
    async with aiohttp.ClientSession(server.url, timeout=aiohttp.ClientTimeout(total=600)) as session:
        watching = asyncio.create_task(watch(session, samples, began))
        await asyncio.sleep(2)
        sent = time.monotonic()
        answers = await asyncio.gather(*(transcribe(session, asked.seconds) for _ in range(asked.jobs)))
        done = time.monotonic()
        await until(lambda: samples[-1]["wanted"] == samples[-1]["up"] == 1, limit=600)
        await asyncio.sleep(2)
        watching.cancel()
    return {
        "samples": samples,
        "sent": sent - began,
        "done": done - began,
        "answered": len(answers),
        "right": sum(answer == [f"w{n}" for n in range(asked.seconds)] for answer in answers),
        "alone": asked.jobs * asked.seconds * asked.step,
    }


async def transcribe(session: aiohttp.ClientSession, seconds: int) -> list[str]:
    form = aiohttp.FormData()
    form.add_field("file", wav(seconds), filename="call.wav")
    async with session.post(TRANSCRIBE, data=form) as answer:
        answer.raise_for_status()
        text: str = (await answer.json())["text"]
        return text.split()


async def watch(session: aiohttp.ClientSession, samples: list[dict[str, float]], began: float) -> None:
    while True:
        async with session.get("/stats") as answer:
            lane = (await answer.json())["lanes"]["whisper"]
        samples.append(
            {
                "time": time.monotonic() - began,
                "wanted": lane["scaling"]["wanted"],
                "up": sum(worker["pid"] is not None for worker in lane["workers"]),
                "queued": lane["queued"],
                "held": sum(worker["jobs"] for worker in lane["workers"]),
            }
        )
        await asyncio.sleep(0.1)


def report(figures: dict[str, Any], asked: argparse.Namespace) -> str:
    samples = figures["samples"]
    most = max(sample["up"] for sample in samples)
    full = next(sample["time"] for sample in samples if sample["up"] == most) - figures["sent"]
    shrunk = next(s["time"] for s in samples if s["time"] > figures["done"] and s["up"] == 1) - figures["done"]
    rows = [
        ["jobs sent at once, answered, right", f"{asked.jobs}, {figures['answered']}, {figures['right']}"],
        ["workers at most", f"{most:.0f} of {asked.most}"],
        ["seconds from the burst until they were up", f"{full:.1f}"],
        ["seconds until all were answered", f"{figures['done'] - figures['sent']:.1f}"],
        ["... which one worker takes for their steps alone", f"{figures['alone']:.1f}"],
        ["seconds from the last answer until one worker was left", f"{shrunk:.1f}"],
    ]
    how = (
        f"Steps that sleep {asked.step} s, {asked.seconds} a job; `grow_after` {asked.grow_after:g} s, `shrink_after` "
        f"{asked.shrink_after:g} s, 1 to {asked.most} workers of `width` 2. Figure: bench/plots/scaling_burst.svg."
    )
    return f"{how}\n\n{results.table(['', 'figure'], rows)}"


if __name__ == "__main__":
    main()
