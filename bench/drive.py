"""Run an engine's job in this process, as a worker would."""

from __future__ import annotations

from typing import Any

from workers.engine import Engine, Unit, outputs_of
from workers.messages import Request


def drive(engine: Engine, request: Request) -> Any:
    """The job's result. Every wave is batched by key, in the order in which the keys appear."""
    job = engine.job(request)
    try:
        wave = next(job)
        while True:
            wave = job.send(_outputs(engine, wave))
    except StopIteration as end:
        return end.value
    finally:
        job.close()


def _outputs(engine: Engine, wave: list[Unit]) -> list[Any]:
    places: dict[Any, list[int]] = {}
    for place, unit in enumerate(wave):
        places.setdefault(unit.key, []).append(place)
    outputs: list[Any] = [None] * len(wave)
    for key, same in places.items():
        size = engine.batch(key)
        for start in range(0, len(same), size):
            step = same[start : start + size]
            results = outputs_of(engine.run([wave[place] for place in step]))
            assert len(results) == len(step)
            for place, result in zip(step, results, strict=True):
                outputs[place] = result
    return outputs
