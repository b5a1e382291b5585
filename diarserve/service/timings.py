"""What the stages of a task took. Pure functions; times are seconds of the monotonic clock."""

from __future__ import annotations

from typing import Any

from diarserve.service.stages import Results
from diarserve.transcript.document import Performance
from workers.messages import Done


def performance(results: Results, *, began: float, joining: float, ended: float, parallel: bool) -> Performance:
    """Of a task that began to be processed, whose words and turns were joined from `joining` on, until it ended."""
    transcribed, aligned, diarized = results.transcribed, results.aligned, results.diarized
    processing, join = ended - began, ended - joining
    first = min(transcribed.started, diarized.started)
    models = max(transcribed.finished, diarized.finished) - first
    last = aligned[-1] if aligned else transcribed
    models_and_alignment = max(done.finished for done in (last, diarized, *results.embedded)) - first
    before = wall(results.decoded) + sum(map(wall, results.separated))
    return Performance(
        parallel_processing=parallel and not results.by_channel,
        processing_time=round(processing, 4),
        queue_time=round(max(processing - before - models_and_alignment - join, 0.0), 4),
        decode_time=round(wall(results.decoded), 4),
        separation_time=round(sum(map(wall, results.separated)), 4),
        transcription_time=round(wall(transcribed), 4),
        forced_alignment_time=round(sum(map(wall, aligned)), 4),
        diarization_time=round(wall(diarized), 4),
        alignment_time=round(join, 4),
        real_time_factor=round(processing / max(results.decoded.result.duration, 1e-3), 4),
        speedup_estimate=round((wall(transcribed) + wall(diarized)) / max(models, 1e-6), 3),
    )


def overlap_ratio(one: Done[Any], other: Done[Any]) -> float:
    """The share of the shorter run in which the other ran too, from 0 to 1."""
    shared = min(one.finished, other.finished) - max(one.started, other.started)
    shorter = min(wall(one), wall(other))
    return min(max(shared, 0.0) / shorter, 1.0) if shorter > 0 else 1.0


def wall(done: Done[Any] | None) -> float:
    """From its first step to its last; 0 for a stage that did not run."""
    return done.took if done else 0.0
