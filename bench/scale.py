"""`make scale`: what a cluster of 1 to 1,000 GPUs needs around its models, from measured costs (bench/results) and an
assumed speed of a GPU. docs/scale.md says what is measured and what is not."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from typing import Any

from bench.results import FOLDER, arguments, publish, table

GPUS = (1, 10, 100, 1000)
FULL = 0.7  # share of a core or a GPU that is used: beyond it waiting grows fast
PIECE = 8 * 2**20  # bytes of one request to the object store
GIB = 2**30


@dataclass(frozen=True)
class Costs:
    """CPU seconds, measured."""

    server_by_second: float  # of audio, in clips of 30 s: event loop, transcripts, progress
    life: tuple[float, float]  # of a recording's row: in the server, in PostgreSQL
    vain: tuple[float, float]  # of a claim where no task waits
    too_late: float  # share of the idle servers that ask for a task that another has claimed
    told: tuple[float, float]  # of a task's progress
    heard: float  # of a notification, in every server
    sent_by_gib: float
    fetched_by_gib: float


@dataclass(frozen=True)
class Load:
    """What is assumed."""

    speed: float  # audio seconds a second of one GPU, whisper and diarization together
    recording: float = 300.0  # seconds
    byte_rate: float = 32_000.0  # of an upload, per second of audio: 16-bit WAV
    gpus_a_server: int = 1
    gpu_hour: float = 2.5  # dollars
    core_hour: float = 0.04


@dataclass(frozen=True)
class Needs:
    audio: float  # hours an hour
    recordings: float  # a second
    gigabits: float  # of uploads a second; as much again goes to the object store, and comes from it
    requests: float  # to the object store a second
    server_cores: float
    of_a_server: float  # share of a core of each event loop
    woken: float  # cores of PostgreSQL for servers that are woken in vain
    database: float  # its other cores
    dollars: float  # an hour of audio


def costs(sizing: Any, store: Any) -> Costs:
    clips = sizing["rows"]["tiny.en (the default)"]["clips"]
    alone, heard = store["told"]
    return Costs(
        clips["by_process"]["server"] / (60 * sizing["arguments"]["minutes"]),
        _both(store["lives"][1]),
        _both(store["vain"]),
        (store["woken"][-1]["claims"] - 1) / (store["woken"][-1]["servers"] - 1),
        _both(alone),
        (heard["server_cpu_ms"] - alone["server_cpu_ms"]) / 1000,
        store["sent"]["put_cpu_per_gib"],
        store["sent"]["get_cpu_per_gib"],
    )


def _both(measured: dict[str, float]) -> tuple[float, float]:
    return measured["server_cpu_ms"] / 1000, measured["database_cpu_ms"] / 1000


def needs(gpus: int, load: Load, cost: Costs) -> Needs:
    """Of that many GPUs that are busy for FULL of the time.

    >>> cost = Costs(5e-4, (3e-3, 2e-3), (4e-4, 1e-4), 0.2, (5e-5, 5e-5), 1e-5, 1.0, 2.0)
    >>> needs(10, Load(speed=100), cost).recordings
    2.3333333333333335
    """
    audio = FULL * gpus * load.speed
    recordings = audio / load.recording
    size = load.recording * load.byte_rate
    servers = max(1, gpus // load.gpus_a_server)
    changes = 2 * audio / 30  # both models tell of 30 s of audio at a time
    told = changes + 3 * recordings  # queued, claimed, ended
    travel = size * (cost.sent_by_gib + cost.fetched_by_gib) / GIB
    woken = recordings * (servers - 1) * cost.too_late
    server_cores = (
        audio * cost.server_by_second
        + recordings * (cost.life[0] + travel)
        + changes * cost.told[0]
        + told * servers * cost.heard
        + woken * cost.vain[0]
    )
    woken_cores = woken * cost.vain[1]
    database = recordings * cost.life[1] + changes * cost.told[1]
    pieces = -(-size // PIECE)
    dollars = (gpus * load.gpu_hour + (server_cores + woken_cores + database) / FULL * load.core_hour) / audio
    return Needs(
        audio,
        recordings,
        8e-9 * audio * load.byte_rate,
        recordings * (2 * pieces + 6),
        server_cores,
        server_cores / servers,
        woken_cores,
        database,
        dollars,
    )


def most(load: Load, cost: Costs, cores: int) -> int:
    """GPUs until the database needs more than FULL of that many cores."""
    gpus = load.gpus_a_server
    while (found := needs(gpus, load, cost)).woken + found.database <= FULL * cores:
        gpus += load.gpus_a_server
    return gpus - load.gpus_a_server


def main() -> None:
    asked = arguments(argparse.ArgumentParser(description=__doc__))
    cost = costs(*(json.loads((FOLDER / "results" / f"{name}.json").read_text()) for name in ("sizing", "store")))
    head = ["GPUs", "servers", "audio h/h", "recordings/s", "Gbit/s in", "S3 requests/s"]
    head += ["server cores", "of each loop", "PostgreSQL cores", "of them woken in vain", "$ per audio hour"]
    parts = []
    for speed in (100.0, 300.0):
        for together in (1, 10):
            load = Load(speed, gpus_a_server=together)
            rows = []
            for gpus in GPUS:
                each = needs(gpus, load, cost)
                rows.append(
                    [
                        f"{gpus:,}",
                        f"{max(1, gpus // together):,}",
                        f"{each.audio:,.0f}",
                        f"{each.recordings:,.1f}",
                        f"{each.gigabits:.2f}",
                        f"{each.requests:,.0f}",
                        f"{each.server_cores:,.2f}",
                        f"{each.of_a_server:.2f}",
                        f"{each.woken + each.database:,.2f}",
                        f"{each.woken:,.2f}",
                        f"{each.dollars:.4f}",
                    ]
                )
            limits = ", ".join(f"{cores}: {most(load, cost, cores):,}" for cores in (1, 8, 32))
            parts.append(f"**{speed:.0f} audio seconds a second of a GPU (assumed), {together} to a server.**")
            parts += [table(head, rows), f"GPUs until PostgreSQL is full, by its cores: {limits}."]
    body = "Estimated, from measured CPU seconds and an assumed speed: docs/scale.md.\n\n" + "\n\n".join(parts)
    publish("scale", "A cluster's size", body, {"costs": asdict(cost)}, asked)


if __name__ == "__main__":
    main()
