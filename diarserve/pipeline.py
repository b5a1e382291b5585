"""The whole story of one recording: decode once, both models at the same time, join, answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from diarserve import merge
from diarserve.lanes import Lane, due
from diarserve.metrics import Metrics
from diarserve.tasks import Task
from workers.messages import AudioRef, Decode, Diarization, Diarize, Done, Transcribe, Transcript

log = logging.getLogger(__name__)

_LARGE = 2000  # words above which joining leaves the event loop


@dataclass(frozen=True, slots=True)
class Lanes:
    decode: Lane
    whisper: Lane
    diarize: Lane

    def __iter__(self) -> Any:
        return iter((self.decode, self.whisper, self.diarize))


async def run(task: Task, lanes: Lanes, metrics: Metrics, *, max_seconds: float, parallel: bool) -> dict[str, Any]:
    """The finished document of a task whose upload lies in its folder. Raises ServiceError."""
    began, options = time.monotonic(), task.options
    waited = max(time.time() - task.created_at, 0.0)
    # The length is not known yet; decoding is quick, so every recording's turn comes at once.
    decoding = await lanes.decode.run(
        Decode(str(task.source), str(task.folder / "audio.f32"), max_seconds),
        due=due(task.priority, 0, waited),
        task=task.id,
        on_progress=partial(task.advance, "decode"),
    )
    task.finish("decode")
    audio: AudioRef = decoding.result
    log.debug("decoded: %.1f s of audio", audio.duration)
    urgency = due(task.priority, audio.duration, waited + time.monotonic() - began)
    transcribing, diarizing = await _both(
        partial(
            lanes.whisper.run,
            Transcribe(audio, options.language, options.whisper_model, task.translate),
            due=urgency,
            task=task.id,
            on_progress=partial(task.advance, "transcribe"),
        ),
        partial(
            lanes.diarize.run,
            Diarize(audio, options.num_speakers, options.min_speakers, options.max_speakers),
            due=urgency,
            task=task.id,
            on_progress=partial(task.advance, "diarize"),
        ),
        parallel=parallel,
    )
    log.debug("both models are done: %.3f s and %.3f s", _wall(transcribing), _wall(diarizing))
    joining = time.monotonic()
    transcript: Transcript = transcribing.result
    diarization: Diarization = diarizing.result
    if len(transcript.words) > _LARGE:
        body = await asyncio.to_thread(join, transcript, diarization)
    else:
        body = join(transcript, diarization)
    ended = time.monotonic()
    metrics.overlap.observe(overlap_ratio(transcribing, diarizing))
    processing = ended - began
    both = max(transcribing.finished, diarizing.finished) - min(transcribing.started, diarizing.started)
    transcription, diarization_time = _wall(transcribing), _wall(diarizing)
    return {
        "task_id": task.id,
        "status": "completed",
        "filename": task.filename,
        "language": transcript.language,
        "duration": round(audio.duration, 3),
        **body,
        "models": {
            "whisper": transcript.model,
            "diarization": diarization.model,
            "alignment": "whisper cross-attention",
            "source_separation": None,
        },
        "performance": {
            "parallel_processing": parallel,
            "processing_time": round(processing, 4),
            "queue_time": round(max(processing - _wall(decoding) - both - (ended - joining), 0.0), 4),
            "decode_time": round(_wall(decoding), 4),
            "transcription_time": round(transcription, 4),
            "diarization_time": round(diarization_time, 4),
            "alignment_time": round(ended - joining, 4),
            "real_time_factor": round(processing / max(audio.duration, 1e-3), 4),
            "speedup_estimate": round((transcription + diarization_time) / max(both, 1e-6), 3),
        },
        "warnings": [*_unhonoured(task), *transcript.warnings, *diarization.warnings],
    }


def join(transcript: Transcript, diarization: Diarization) -> dict[str, Any]:
    """The part of the document that says who said what."""
    labelled = merge.label(transcript.words, diarization.turns)
    segments = merge.segments(labelled)
    speakers = sorted({turn.speaker for turn in diarization.turns} | {word.speaker for word in labelled})
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
                "words": [asdict(word) | {"word": word.word.strip()} for word in segment.words],
            }
            for number, segment in enumerate(segments)
        ],
        "turns": [asdict(turn) for turn in diarization.turns],
    }


def overlap_ratio(one: Done, other: Done) -> float:
    """The share of the shorter run in which the other ran too."""
    shared = min(one.finished, other.finished) - max(one.started, other.started)
    shorter = min(_wall(one), _wall(other))
    return min(max(shared, 0.0) / shorter, 1.0) if shorter > 0 else 1.0


async def _both(
    transcribe: Callable[[], Coroutine[Any, Any, Done]],
    diarize: Callable[[], Coroutine[Any, Any, Done]],
    *,
    parallel: bool,
) -> tuple[Done, Done]:
    if not parallel:
        return await transcribe(), await diarize()
    try:
        async with asyncio.TaskGroup() as group:  # when one fails the other is cancelled
            whisper, nemo = group.create_task(transcribe()), group.create_task(diarize())
    except* Exception as failures:
        raise failures.exceptions[0] from None
    return whisper.result(), nemo.result()


def _wall(done: Done) -> float:
    return done.finished - done.started


def _unhonoured(task: Task) -> list[str]:
    warnings = []
    if task.options.source_separation:
        warnings.append("source_separation is not available in this configuration: the recording was used as it is")
    if task.options.enhanced_alignment:
        warnings.append("enhanced_alignment is not available in this configuration: Whisper's own word times stand")
    return warnings
