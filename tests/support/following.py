"""Live diarizers' jobs in this process, fed faster than real time."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from tests.support.drive import outputs_of_phase
from workers.engine import Await, Emit, Engine, WorkItem
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, AudioRef, Follow, Turn
from workers.messages.live import Append, LiveTurns


def write(samples: Samples, path: Path) -> AudioRef:
    (samples * 32767).astype("<i2").tofile(path)
    return AudioRef(str(path), 0, pcm=0)


def feed(engine: Engine, request: Follow, appends: Sequence[Append]) -> list[LiveTurns]:
    """What a session tells, its audio coming as `appends` say."""
    [told] = feed_together(engine, [(request, appends)])
    return told


def feed_together(engine: Engine, sessions: Sequence[tuple[Follow, Sequence[Append]]]) -> list[list[LiveTurns]]:
    """What each of them tells; the next phases of all are run at the same time."""
    told: list[list[LiveTurns]] = [[] for _ in sessions]
    going = [_phases(engine, *session, mine) for session, mine in zip(sessions, told, strict=True)]
    phases = {number: phase for number, steps in enumerate(going) if (phase := next(steps, None))}
    while phases:
        outputs = iter(outputs_of_phase(engine, [item for phase in phases.values() for item in phase]))
        for number, phase in list(phases.items()):
            try:
                phases[number] = going[number].send([next(outputs) for _ in phase])
            except StopIteration:
                del phases[number]
    return told


def _phases(
    engine: Engine, request: Follow, appends: Sequence[Append], told: list[LiveTurns]
) -> Generator[list[WorkItem], list[Any], None]:
    job, coming = engine.live(request), iter(appends)
    try:
        wanted = next(job)
        while True:
            match wanted:
                case Emit(output):
                    assert isinstance(output, LiveTurns)
                    told.append(output)
                    wanted = next(job)
                case Await(samples):
                    more = next(coming, None)
                    while more and more.samples < samples and not (more.flush or more.end):
                        more = next(coming, None)
                    if more is None:
                        return
                    wanted = job.send(more)
                case items:
                    wanted = job.send((yield items))
    except StopIteration:
        return
    finally:
        job.close()


def pieces(total: int, seconds: float, start: int = 0) -> list[Append]:
    step = round(seconds * SAMPLE_RATE)
    return [*(Append("live", samples) for samples in range(start + step, total, step)), Append("live", total, end=True)]


def whole(outputs: Sequence[LiveTurns]) -> list[Turn]:
    """The turns in the end: each output takes the place of what was told after its `since`."""
    told: list[Turn] = []
    for output in outputs:
        kept = [turn for turn in told if turn.end <= output.since]
        told = [*kept, *output.turns]
    return told
