"""Run an engine's job in this process, as a worker would."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from workers.engine import Engine, WorkItem, outputs_of
from workers.media.samples import Samples
from workers.messages import AudioRef, Request


def drive(engine: Engine, request: Request, shown: list[Any] | None = None) -> Any:
    """The job's result. Every phase is batched by key, in the order in which the keys appear. `shown` is filled with
    the outputs that a worker would show before the job is done."""
    job = engine.job(request)
    try:
        phase = next(job)
        while True:
            outputs = outputs_of_phase(engine, phase)
            if shown is not None:
                shown += [output for item, output in zip(phase, outputs, strict=True) if item.partial]
            phase = job.send(outputs)
    except StopIteration as end:
        return end.value
    finally:
        job.close()


def with_audio(samples: Samples, use: Callable[[AudioRef], Any]) -> Any:
    """What `use` makes of the samples, which are in a file meanwhile."""
    with tempfile.NamedTemporaryFile(suffix=".f32") as file:
        samples.tofile(file.name)
        return use(AudioRef(file.name, len(samples)))


def outputs_of_phase(engine: Engine, phase: list[WorkItem]) -> list[Any]:
    places: dict[Any, list[int]] = {}
    for place, item in enumerate(phase):
        places.setdefault(item.key, []).append(place)
    outputs: list[Any] = [None] * len(phase)
    for key, same in places.items():
        size = engine.batch(key)
        for start in range(0, len(same), size):
            step = same[start : start + size]
            results = outputs_of(engine.run([phase[place] for place in step]))
            assert len(results) == len(step)
            for place, result in zip(step, results, strict=True):
                outputs[place] = result
    return outputs
