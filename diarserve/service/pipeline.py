"""The whole story of one recording: decode once, both models at the same time, join, answer."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from diarserve.core.types import Diarizer
from diarserve.observe.metrics import Metrics
from diarserve.pool.job import virtual_deadline
from diarserve.pool.lane import Lane
from diarserve.pool.lanes import Lanes
from diarserve.service import diarizer_choice
from diarserve.tasks.task import Task
from diarserve.transcript import merge
from workers.messages import (
    CROSS_ATTENTION,
    Align,
    AudioRef,
    Decode,
    Diarize,
    Done,
    Request,
    Separate,
    Transcribe,
    Transcript,
    Turn,
    Word,
)

log = logging.getLogger(__name__)

_LARGE = 1000  # words above which joining leaves the event loop: they take 5 ms


@dataclass(frozen=True, slots=True)
class Words:
    """What was said: by Whisper, and with times by forced alignment if that was asked for and is to be had."""

    transcribed: Done
    aligned: Done | None

    @property
    def words(self) -> tuple[Word, ...]:
        words: tuple[Word, ...] = (self.aligned or self.transcribed).result.words
        return words


async def run(
    task: Task, lanes: Lanes, metrics: Metrics, *, max_seconds: float, parallel: bool, diarizer: Diarizer
) -> dict[str, Any]:
    """The finished document of a task whose upload lies in its folder. Raises ServiceError."""
    began, options = time.monotonic(), task.options
    waited = max(time.time() - task.created_at, 0.0)

    async def step(stage: str, lane: Lane, request: Request, urgency: float) -> Done:
        done = await lane.run(request, virtual_deadline=urgency, task=task.id, on_progress=partial(task.advance, stage))
        task.finish(stage)
        return done

    # The length is not known yet; decoding is quick, so every recording's turn comes at once.
    source = Decode(task.source, os.path.join(task.folder, "audio.f32"), max_seconds)
    decoded = await step("decode", lanes.decode, source, virtual_deadline(task.priority, 0, waited))
    audio: AudioRef = decoded.result
    log.debug("decoded: %.1f s of audio", audio.duration)
    urgency = virtual_deadline(task.priority, audio.duration, waited + time.monotonic() - began)
    separated = None
    if options.source_separation and lanes.separate:
        separating = Separate(audio, str(task.folder / "voices.f32"))
        separated = await step("separate", lanes.separate, separating, urgency)
        audio = separated.result.audio

    async def write() -> Words:
        transcribe = Transcribe(
            audio,
            options.language,
            options.whisper_model,
            task.translate,
            options.prompt,
            options.hotwords,
            options.beam_size,
            options.temperature,
        )
        transcribed = await step("transcribe", lanes.whisper, transcribe, urgency)
        # What was translated is not what is heard: there is nothing to align it with.
        if not options.enhanced_alignment or lanes.align is None or task.translate:
            return Words(transcribed, None)
        heard: Transcript = transcribed.result
        return Words(transcribed, await step("align", lanes.align, Align(audio, heard.words, heard.language), urgency))

    async def diarize() -> Done:
        lane = diarizer_choice.choose(options, diarizer, lanes.diarizers, audio.duration)
        counts = (options.num_speakers, options.min_speakers, options.max_speakers)
        return await step("diarize", lane, Diarize(audio, *counts), urgency)

    written, diarized = await _both(write, diarize, parallel=parallel)
    transcribed, aligned = written.transcribed, written.aligned
    log.debug("both models are done: %.3f s and %.3f s", _wall(transcribed), _wall(diarized))
    joining = time.monotonic()
    if len(written.words) > _LARGE:
        body = await asyncio.to_thread(join, written.words, diarized.result.turns)
    else:
        body = join(written.words, diarized.result.turns)
    ended = time.monotonic()
    metrics.overlap.observe(overlap_ratio(transcribed, diarized))
    processing = ended - began
    both = max((aligned or transcribed).finished, diarized.finished) - min(transcribed.started, diarized.started)
    models = max(transcribed.finished, diarized.finished) - min(transcribed.started, diarized.started)
    busy = sum(map(_wall, filter(None, (decoded, separated))))
    everyone = [done for done in (decoded, separated, transcribed, aligned, diarized) if done]
    return {
        "task_id": task.id,
        "status": "completed",
        "filename": task.filename,
        "language": transcribed.result.language,
        "duration": round(audio.duration, 3),
        **body,
        "models": {
            "whisper": transcribed.result.model,
            "diarization": diarized.result.model,
            "alignment": aligned.result.model if aligned else CROSS_ATTENTION,
            "source_separation": separated.result.model if separated else None,
        },
        # Whether a step did not fit into its device's memory, so that a lesser model or device did it.
        "degraded": any(done.degraded for done in everyone),
        "performance": {
            "parallel_processing": parallel,
            "processing_time": round(processing, 4),
            "queue_time": round(max(processing - busy - both - (ended - joining), 0.0), 4),
            "decode_time": round(_wall(decoded), 4),
            "separation_time": round(_wall(separated), 4),
            "transcription_time": round(_wall(transcribed), 4),
            "forced_alignment_time": round(_wall(aligned), 4),
            "diarization_time": round(_wall(diarized), 4),
            "alignment_time": round(ended - joining, 4),
            "real_time_factor": round(processing / max(audio.duration, 1e-3), 4),
            "speedup_estimate": round((_wall(transcribed) + _wall(diarized)) / max(models, 1e-6), 3),
        },
        "warnings": [
            *_unhonoured(task, lanes),
            *(w for done in everyone for w in getattr(done.result, "warnings", ())),
        ],
    }


def join(words: tuple[Word, ...], turns: tuple[Turn, ...]) -> dict[str, Any]:
    """The part of the document that says who said what."""
    labelled = merge.label(words, turns)
    segments = merge.segments(labelled)
    speakers = sorted({turn.speaker for turn in turns} | {word.speaker for word in labelled})
    return {
        "text": " ".join(segment.text for segment in segments),
        "speakers": speakers,
        "segments": [
            {
                "id": number,
                "start": segment.start,
                "end": segment.end,
                "speaker": segment.speaker,
                "text": segment.text,
                "words": [_word(word) for word in segment.words],
            }
            for number, segment in enumerate(segments)
        ],
        "turns": [{"start": turn.start, "end": turn.end, "speaker": turn.speaker} for turn in turns],
    }


def _word(word: merge.LabelledWord) -> dict[str, Any]:
    # dataclasses.asdict copies deeply: over 30 times the time, and hours have tens of thousands of words.
    return {
        "word": word.word.strip(),
        "start": word.start,
        "end": word.end,
        "probability": word.probability,
        "speaker": word.speaker,
        "speaker_confidence": word.speaker_confidence,
        "overlap": word.overlap,
    }


def overlap_ratio(one: Done, other: Done) -> float:
    """The share of the shorter run in which the other ran too."""
    shared = min(one.finished, other.finished) - max(one.started, other.started)
    shorter = min(_wall(one), _wall(other))
    return min(max(shared, 0.0) / shorter, 1.0) if shorter > 0 else 1.0


async def _both(
    write: Callable[[], Coroutine[Any, Any, Words]], diarize: Callable[[], Coroutine[Any, Any, Done]], *, parallel: bool
) -> tuple[Words, Done]:
    if not parallel:
        return await write(), await diarize()
    try:
        async with asyncio.TaskGroup() as group:  # when one fails the other is cancelled
            diarized = group.create_task(diarize())
            written = await write()
    except* Exception as failures:
        raise failures.exceptions[0] from None
    return written, diarized.result()


def _wall(done: Done | None) -> float:
    return done.finished - done.started if done else 0.0


def _unhonoured(task: Task, lanes: Lanes) -> list[str]:
    warnings = []
    if task.options.source_separation and not lanes.separate:
        warnings.append("source_separation is not available in this configuration: the recording was used as it is")
    if task.options.enhanced_alignment and task.translate:
        warnings.append("a translation cannot be aligned with what is heard: Whisper's own word times stand")
    elif task.options.enhanced_alignment and not lanes.align:
        warnings.append("enhanced_alignment is not available in this configuration: Whisper's own word times stand")
    return warnings
