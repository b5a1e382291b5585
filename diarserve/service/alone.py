"""One stage of the pipeline on its own: the language of a recording, who speaks when without its words, or how somebody
sounds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from diarserve.core.errors import is_temporary
from diarserve.service.service import Service
from diarserve.service.speakers import find_speakers
from diarserve.service.stages import Stages
from diarserve.tasks.task import Task
from diarserve.voices import quality
from diarserve.voices.voice import Sample
from workers.messages import Embeddings, Spoken, Turn
from workers.runtime.logs import log_context

LONGEST_SAMPLE = 60.0  # seconds of a voice


@dataclass(frozen=True, slots=True)
class Turns:
    duration: float  # seconds, of the recording
    turns: tuple[Turn, ...]  # sorted by start
    warnings: tuple[str, ...]


async def language(service: Service, task: Task) -> Spoken:
    """In which language the task's upload is. Raises ServiceError."""
    with _accounted(service, task) as stages:
        decoded = await stages.decode(service.settings.limits.max_audio_seconds)
        spoken = await stages.detect_language(decoded.result)
        service.audio.settle(task.owner, task.id, decoded.result.duration)
    return spoken.result


async def turns(service: Service, task: Task) -> Turns:
    """Who speaks when in the task's upload, by name where voices are known. Raises ServiceError."""
    with _accounted(service, task) as stages:
        decoded = await stages.decode(service.settings.limits.max_audio_seconds)
        voices = service.voices.chosen(task.options, task.owner)
        found = await find_speakers(stages, task, decoded.result, service.settings.diarizer, voices)
        service.audio.settle(task.owner, task.id, decoded.result.duration)
    return Turns(decoded.result.duration, found.diarization.turns, (*found.diarization.warnings, *found.warnings))


async def sample(service: Service, task: Task) -> Sample:
    """The task's upload as a sample of one person's voice. Raises ServiceError."""
    stages = Stages(task, service.lanes, service.spool.disk)
    audio = (await stages.decode(LONGEST_SAMPLE)).result
    answer: Embeddings = (await stages.embed(audio)).result
    voice = quality.require(answer, service.settings.voices)
    return Sample(voice.embedding, voice.seconds, answer.model, answer.clipping, time.time())


@contextmanager
def _accounted(service: Service, task: Task) -> Iterator[Stages]:
    """What a recording that cannot be read had reserved of its key's audio-hours is given back."""
    with log_context(task.id), service.tasks.track(task):
        try:
            yield Stages(task, service.lanes, service.spool.disk)
        except Exception as error:
            if not is_temporary(error):
                service.audio.settle(task.owner, task.id, 0)
            raise
