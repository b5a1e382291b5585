"""A lane of one stand-in Whisper, and jobs for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diarserve.pool.job import virtual_deadline
from diarserve.pool.lane import Lane
from tests.support.waiting import until
from workers.messages import SAMPLE_RATE, AudioRef, Done, Transcribe, Transcript, WorkerSpec

Options = dict[str, Any] | Sequence[dict[str, Any]]
MakeLane = Callable[..., Lane]


def specs(
    options: Options = (), environment: Mapping[str, str] | None = None, step_timeout: float = 60.0
) -> list[WorkerSpec]:
    """`options`: the worker's, or each worker's."""
    each = [options] if isinstance(options, dict) else options or [{}]
    return [
        WorkerSpec("whisper", "tests.support.standins:Whisper", own, environment or {}, step_timeout=step_timeout)
        for own in each
    ]


def job(folder: Path, seconds: int = 2, order: str = "") -> Transcribe:
    folder.mkdir(exist_ok=True)
    if order:
        (folder / "order").write_text(order)
    return Transcribe(AudioRef(str(folder / "audio.f32"), seconds * SAMPLE_RATE))


async def do(lane: Lane, request: Transcribe, patience: float = 0.0) -> Done[Transcript]:
    return await lane.run(request, virtual_deadline=virtual_deadline("high", request.audio.duration) + patience)


def restarts(lane: Lane) -> int:
    return sum(worker["restarts"] for worker in lane.state()["workers"])


def pid(lane: Lane) -> int:
    found: int = lane.state()["workers"][0]["pid"]
    return found


async def steps_of(folder: Path) -> int:
    """Wait for a job's first step; how many it has made."""
    log = folder / "whisper-steps"
    await until(log.exists)
    return len(log.read_text().splitlines())
