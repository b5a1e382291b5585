"""How right live words and live speakers are, beside the offline path on the same recordings, against their references.

Words come from live sessions of a server, played at real time. Turns come from the diarizer's live job in this process,
where the order of its windows does not depend on the clock: as first settled, and with its corrections.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from bench import results
from bench.accuracy import SCORED, references
from bench.live import play
from bench.scoring import cp_wer, stm_lines, word_error_rate
from tests.support.diarization_error import der, rttm_turns
from tests.support.drive import drive, with_audio
from tests.support.recordings import decoded, sample
from tests.support.server import Server, running
from workers.diarize.embedded.engine import EmbeddedDiarizer
from workers.engine import Await, Emit
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, AudioRef, Diarize, Follow, Turn
from workers.messages.live import Append, LiveTurns

_STEP = SAMPLE_RATE // 2  # samples that come at a time


class Said(NamedTuple):
    word: str
    speaker: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="of the call: live words depend on when they were decoded")
    asked = results.arguments(parser)
    with running() as server:
        words = [asyncio.run(_words(server)) for _ in range(asked.runs)]
    speakers = _speakers()
    body = f"{_word_table(words)}\n\n{_speaker_table(speakers)}"
    results.publish("live-accuracy", "Live accuracy", body, {"words": words, "speakers": speakers}, asked)


async def _words(server: Server) -> dict[str, float]:
    """Rates of the telephone call: live, and in the document that its session ends with."""
    said = stm_lines(sample(".stm"))
    pcm = (decoded(sample()).clip(-1, 1) * 32767).astype("<i2").tobytes()
    async with aiohttp.ClientSession() as client:
        session = await play(client, server, pcm)
    offline = [Said(word["word"], word["speaker"]) for part in session.document["segments"] for word in part["words"]]
    return {
        "WER live": word_error_rate(said, session.words),
        "WER offline": word_error_rate(said, offline),
        "cpWER live": cp_wer(said, session.words),
        "cpWER offline": cp_wer(said, offline),
    }


def _word_table(runs: Sequence[dict[str, float]]) -> str:
    rows: list[list[object]] = []
    for rate in ("WER", "cpWER"):
        live, offline = ([run[f"{rate} {path}"] for run in runs] for path in ("live", "offline"))
        ratio = sum(live) / sum(offline)
        rows.append([rate, results.spread(live, 3), results.spread(offline, 3), f"{ratio:.2f}"])
    return f"The telephone call, {len(runs)} sessions.\n\n" + results.table(("rate", "live", "offline", "ratio"), rows)


def _speakers() -> list[dict[str, Any]]:
    diarizer = EmbeddedDiarizer()
    found = []
    for name, path, rttm in references():
        truth, samples = rttm_turns(rttm, name), decoded(path)[: int(SCORED * SAMPLE_RATE)]
        offline = list(with_audio(samples, lambda ref: drive(diarizer, Diarize(ref))).turns)
        first, corrected = followed(diarizer, samples)
        rates = (der(truth, turns, SCORED).der for turns in (offline, first, corrected))
        found.append({"recording": name, **dict(zip(("offline", "first", "corrected"), rates, strict=True))})
    return found


def _speaker_table(found: Sequence[dict[str, Any]]) -> str:
    kinds = ("offline", "first", "corrected")
    rows: list[list[object]] = [[row["recording"], *(f"{row[kind]:.3f}" for kind in kinds)] for row in found]
    rows.append(["mean", *(f"{sum(row[kind] for row in found) / len(found):.3f}" for kind in kinds)])
    return "DER, no collar, overlap counted; one grid of windows.\n\n" + results.table(("recording", *kinds), rows)


def followed(diarizer: EmbeddedDiarizer, samples: Samples) -> tuple[list[Turn], list[Turn]]:
    """Turns as each moment was first settled, and as they were at last."""
    first: list[Turn] = []
    last: list[Turn] = []
    settled = 0.0
    for output in outputs(diarizer, samples):
        first += cut(output.turns, settled, output.until)
        last = [*cut(last, 0.0, output.since), *cut(output.turns, output.since, float("inf"))]
        settled = max(settled, output.until)
    return first, last


def cut(turns: Sequence[Turn], start: float, end: float) -> list[Turn]:
    parts = (Turn(max(turn.start, start), min(turn.end, end), turn.speaker) for turn in turns)
    return [part for part in parts if part.end > part.start]


def outputs(diarizer: EmbeddedDiarizer, samples: Samples) -> list[LiveTurns]:
    """Of a live job to which the samples come half a second at a time."""
    told: list[LiveTurns] = []
    descriptor, name = tempfile.mkstemp(suffix=".pcm")
    with os.fdopen(descriptor, "wb") as file:
        file.write((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    job, there = diarizer.live(Follow(AudioRef(name, 0, pcm=0))), 0
    try:
        asked = next(job)
        while True:
            if isinstance(asked, Await):
                there = min(there + _STEP, len(samples))
                while there < asked.samples and there < len(samples):
                    there = min(there + _STEP, len(samples))
                asked = job.send(Append("", there, end=there == len(samples)))
            elif isinstance(asked, Emit):
                assert isinstance(asked.output, LiveTurns)
                told.append(asked.output)
                asked = job.send(None)
            else:
                asked = job.send(list(diarizer.run(asked)))
    except StopIteration:
        return told
    finally:
        job.close()
        Path(name).unlink()


if __name__ == "__main__":
    main()
