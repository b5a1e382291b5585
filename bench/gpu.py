"""`make gpu`: Whisper and Sortformer of the real sizes on a GPU, alone and together. Their weights are random, which
costs what trained ones cost, but for the text: an untrained Whisper never ends it, so every chunk is written to the
limit, and the times are upper bounds. Then live sessions of the streaming Sortformer (bench/gpu_live.py)."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import gpu_live
from bench.performance_test import overlap
from bench.results import arguments, publish, spread, table
from tests.support.recordings import speech, write_wav
from tests.support.server import Server, configured

CONFIG = """
parallel_processing = {parallel}
embedded = false
separate = false
[decode]
engine = "decoder"
[whisper]
engine = "whisper"
model = "{whisper}"
device = "{device}"
fill = true
batch = 16
parallel = 2
threads = 4
[sortformer]
engine = "sortformer"
model = "{sortformer}"
device = "{device}"
fill = true
max_seconds = 20000
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models: whether it runs, not how fast")
    asked = arguments(parser)
    with tempfile.TemporaryDirectory(prefix="diarserve-bench-") as name:
        folder = Path(name)
        recording = folder / "speech.wav"
        write_wav(recording, speech(60 * asked.minutes))
        models = build(folder, tiny=asked.tiny)
        alone = measure(recording, models, asked, parallel="false")
        together = measure(recording, models, asked, parallel="true")
        live = gpu_live.measure(models["streaming"], asked.device, folder)
    text = f"{report(alone, together)}\n\n{gpu_live.report(live)}"
    publish("gpu", "On a GPU", text, {"alone": alone, "together": together, "live": live}, asked)


def build(folder: Path, *, tiny: bool) -> dict[str, Path]:
    from tests.support.models import sortformer
    from tests.support.models.whisper import whisper

    size = sortformer.TINY if tiny else sortformer.REAL
    return {
        "whisper": whisper(folder / "medium.en", "random" if tiny else "medium"),
        "sortformer": sortformer.sortformer(folder, size),
        "streaming": sortformer.sortformer(folder, size, streaming=True),
    }


def measure(
    recording: Path, models: dict[str, Path], asked: argparse.Namespace, *, parallel: str
) -> list[dict[str, Any]]:
    """A row for each run: the seconds of both models and of all, their overlap, and their lanes' GPU memory."""
    with configured(CONFIG.format(parallel=parallel, device=asked.device, **models)) as server:
        server.transcribe(recording)  # warm
        rows = []
        for run in range(asked.runs):
            timings = server.transcribe(recording)["performance"]
            rows.append({**timings, "overlap": overlap(timings), "memory": memory(server)})
            print(f"run {run}: {timings['processing_time']:.2f} s", file=sys.stderr)
    return rows


def memory(server: Server) -> dict[str, dict[str, int]]:
    """By lane: bytes of its GPU memory."""
    lanes = server.get("/stats")["lanes"]
    return {name: worker["memory"] for name, lane in lanes.items() for worker in lane["workers"] if worker["memory"]}


def report(alone: list[dict[str, Any]], together: list[dict[str, Any]]) -> str:
    head = ("", "Whisper s", "Sortformer s", "all s", "overlap", "peak MiB of Sortformer", "MiB in use on the device")
    rows = [
        [
            name,
            *(spread([row[key] for row in runs]) for key in ("transcription_time", "diarization_time")),
            spread([row["processing_time"] for row in runs]),
            spread([row["overlap"] for row in runs]),
            *mib(runs[-1]["memory"].get("sortformer", {})),
        ]
        for name, runs in (("one after the other", alone), ("together", together))
    ]
    gain = statistics.median(row["processing_time"] for row in alone) / statistics.median(
        row["processing_time"] for row in together
    )
    return f"{table(head, rows)}\n\nTogether is {gain:.2f} times as fast. Median (smallest-largest)."


def mib(memory: dict[str, int]) -> tuple[str, str]:
    if not memory:
        return "-", "-"
    return str(memory["peak"] >> 20), str((memory["total"] - memory["free"]) >> 20)


if __name__ == "__main__":
    main()
