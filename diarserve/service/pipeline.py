"""One recording from its upload to its document: decoded once, both models at the same time, joined."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from diarserve.core.offload import offload
from diarserve.core.types import Diarizer
from diarserve.observe import tracing
from diarserve.observe.metrics import Metrics, exemplar
from diarserve.pool.lanes import Lanes
from diarserve.service.speakers import Speakers, find_speakers, references, speakers_of_channels
from diarserve.service.stages import Results, Stages
from diarserve.service.timings import overlap_ratio, performance, wall
from diarserve.tasks.disk_space import DiskSpace
from diarserve.tasks.task import Task
from diarserve.transcript.channels import join_channels
from diarserve.transcript.document import LARGE, Document, Models
from diarserve.transcript.join import Joined, join
from diarserve.voices.voice import Voice
from workers.messages import CROSS_ATTENTION, AudioRef

log = logging.getLogger(__name__)

One = TypeVar("One")
Other = TypeVar("Other")


async def run(
    task: Task,
    lanes: Lanes,
    metrics: Metrics,
    disk: DiskSpace,
    *,
    max_seconds: float,
    parallel: bool,
    diarizer: Diarizer,
    voices: Sequence[Voice] = (),
) -> Document:
    """The document of a task whose upload lies in its folder. Raises ServiceError.

    max_seconds: of audio; a longer recording is refused.
    parallel: False runs one model after the other.
    diarizer: where the task names none.
    voices: stored ones that may speak.
    """
    began = time.monotonic()
    results, speakers = await _run_stages(task, lanes, disk, max_seconds, diarizer, voices, parallel=parallel)
    if not results.by_channel:
        metrics.overlap.observe(overlap_ratio(results.transcribed, results.diarized), exemplar(task.id))
    joining = time.monotonic()
    with tracing.span("merge"):
        joined = await _join(results, speakers)
    timings = performance(results, began=began, joining=joining, ended=time.monotonic(), parallel=parallel)
    return Document(
        task_id=task.id,
        status="completed",
        filename=task.filename,
        language=results.transcribed.result.language,
        duration=round(results.decoded.result.duration, 3),
        text=joined.text,
        speakers=joined.speakers,
        segments=joined.segments,
        turns=joined.turns,
        models=_models(results),
        degraded=any(done.degraded for done in results.ran),
        performance=timings,
        warnings=(*_unhonoured(task, lanes, results), *_warnings(results), *speakers.warnings),
        speaker_matches=speakers.matches,
        speaker_embeddings=speakers.embeddings,
    )


async def _run_stages(
    task: Task,
    lanes: Lanes,
    disk: DiskSpace,
    max_seconds: float,
    diarizer: Diarizer,
    voices: Sequence[Voice],
    *,
    parallel: bool,
) -> tuple[Results, Speakers]:
    stages = Stages(task, lanes, disk)
    decoded = await stages.decode(max_seconds)
    audio: AudioRef = decoded.result
    log.debug("decoded: %.1f s of audio", audio.duration)
    channels: Sequence[AudioRef] = audio.each()
    if separated := await stages.separate(channels):
        channels = [done.result.audio for done in separated]
    if len(channels) > 1:
        (transcribed, aligned), given = await _both(
            partial(stages.recognize, channels), partial(references, stages, task), parallel=parallel
        )
        stages.skip("diarize")
        speakers = await speakers_of_channels(stages, task, channels, transcribed, aligned, given, voices)
    else:
        (transcribed, aligned), speakers = await _both(
            partial(stages.recognize, channels),
            partial(find_speakers, stages, task, channels[0], diarizer, voices),
            parallel=parallel,
        )
    diarized = speakers.diarized
    log.debug("both models are done: %.3f s and %.3f s", wall(transcribed), wall(diarized))
    return Results(decoded, separated, transcribed, aligned, diarized, speakers.embedded), speakers


async def _both(
    one: Callable[[], Coroutine[Any, Any, One]], other: Callable[[], Coroutine[Any, Any, Other]], *, parallel: bool
) -> tuple[One, Other]:
    """At the same time, or one after the other. When one fails the other is cancelled."""
    if not parallel:
        return await one(), await other()
    try:
        async with asyncio.TaskGroup() as group:
            beside = group.create_task(other())
            first = await one()
    except* Exception as failures:
        raise failures.exceptions[0] from None
    return first, beside.result()


async def _join(results: Results, speakers: Speakers) -> Joined:
    words, diarized, language = results.words, speakers.diarization, results.transcribed.result.language
    if results.by_channel:
        return await offload(len(words) > LARGE, join_channels, words, diarized.turns, language, speakers.names)
    return await offload(len(words) > LARGE, join, words, diarized.turns, diarized.activity, language)


def _models(results: Results) -> Models:
    return Models(
        whisper=results.transcribed.result.model,
        diarization=results.diarized.result.model,
        alignment=results.aligned[0].result.model if results.aligned else CROSS_ATTENTION,
        source_separation=results.separated[0].result.model if results.separated else None,
        speaker_confidence="probability" if results.diarized.result.activity else "coverage",
    )


def _warnings(results: Results) -> list[str]:
    given = (warning for done in results.ran for warning in getattr(done.result, "warnings", ()))
    return list(dict.fromkeys(given))  # each channel may give the same


def _unhonoured(task: Task, lanes: Lanes, results: Results) -> list[str]:
    warnings = []
    if task.options.channels == "separate" and not results.by_channel:
        warnings.append("the recording has one channel: channels=separate was ignored, voices tell the speakers apart")
    elif task.options.channels == "mix" and results.decoded.result.independent:
        warnings.append("different people speak in the channels: channels=separate would tell them apart for certain")
    if task.options.source_separation and not lanes.separate:
        warnings.append("source_separation is not available in this configuration: the recording was used as it is")
    if task.options.enhanced_alignment and task.translate:
        warnings.append("a translation cannot be aligned with what is heard: Whisper's own word times stand")
    elif task.options.enhanced_alignment and not lanes.align:
        warnings.append("enhanced_alignment is not available in this configuration: Whisper's own word times stand")
    if task.options.compares_voices and not lanes.embed:
        warnings.append("known voices are not available in this configuration: no speaker was compared with them")
    return warnings
