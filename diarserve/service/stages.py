"""The stages of one task, each a job in a lane, and what they answered."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from diarserve.core.errors import NotReady
from diarserve.core.types import Diarizer
from diarserve.pool.job import OnProgress, virtual_deadline
from diarserve.pool.lane import Lane
from diarserve.pool.lanes import Lanes
from diarserve.service import diarizer_choice
from diarserve.tasks.disk_space import DiskSpace, decoded_bound, upload_size
from diarserve.tasks.task import Task
from workers.messages import (
    Align,
    Alignment,
    Asks,
    AudioRef,
    Decode,
    DetectLanguage,
    Diarization,
    Diarize,
    Done,
    Embed,
    Embeddings,
    R,
    Separate,
    Separation,
    Spoken,
    Transcribe,
    Transcript,
    Turn,
    Word,
)


@dataclass(frozen=True, slots=True)
class Results:
    """What each stage answered; None for one that did not run."""

    decoded: Done[AudioRef]
    separated: Sequence[Done[Separation]]  # of each channel that is kept apart; empty, here and below: not asked for
    transcribed: Done[Transcript]
    aligned: Sequence[Done[Alignment]]
    diarized: Done[Diarization]
    embedded: Sequence[Done[Embeddings]] = ()

    @property
    def ran(self) -> list[Done[Any]]:
        return [self.decoded, *self.separated, self.transcribed, *self.aligned, self.diarized, *self.embedded]

    @property
    def words(self) -> tuple[Word, ...]:
        """With times by forced alignment where there are such."""
        if not self.aligned:
            words: tuple[Word, ...] = self.transcribed.result.words
            return words
        aligned = (word for done in self.aligned for word in done.result.words)
        return tuple(sorted(aligned, key=lambda word: word.start))

    @property
    def by_channel(self) -> bool:
        """Whether each channel is a speaker."""
        decoded: AudioRef = self.decoded.result
        return decoded.channels > 1


class Stages:
    """Runs the stages of a task as jobs of one urgency, and tells the task how far each is."""

    def __init__(self, task: Task, lanes: Lanes, disk: DiskSpace) -> None:
        self._task = task
        self._disk = disk
        self._lanes = lanes
        self._arrived = time.monotonic() - max(time.time() - task.created_at, 0.0)
        self._deadline = 0.0

    async def decode(self, max_seconds: float) -> Done[AudioRef]:
        """Decoding is quick, and tells the length: until then tasks compete as if they had none."""
        self._set_deadline(0.0)
        target = os.path.join(self._task.folder, "audio.f32")
        bound = decoded_bound(upload_size(self._task.source), max_seconds)
        separate = self._task.options.channels == "separate"
        request = Decode(self._task.source, target, max_seconds, separate=separate)
        async with self._disk.reserved_for_conversion(bound * (2 if separate else 1)):
            done = await self._run("decode", self._lanes.decode, request)
        self._set_deadline(done.result.duration)
        return done

    async def separate(self, channels: Sequence[AudioRef]) -> list[Done[Separation]]:
        """Of each channel; of none where it is not asked for."""
        if not self._task.options.source_separation or self._lanes.separate is None:
            return []
        targets = [os.path.join(self._task.folder, f"voices{number}.f32") for number in range(len(channels))]
        async with self._disk.reserved_for_conversion(sum(audio.samples for audio in channels) * 4):  # float32
            return [
                await self._run("separate", self._lanes.separate, Separate(audio, target))
                for audio, target in zip(channels, targets, strict=True)
            ]

    async def recognize(self, channels: Sequence[AudioRef]) -> tuple[Done[Transcript], list[Done[Alignment]]]:
        """Transcription, then forced alignment of each channel where it is asked for. A translation is not aligned: its
        words are not those that are spoken."""
        options = self._task.options
        transcribed = await self._run(
            "transcribe",
            self._lanes.whisper,
            Transcribe(
                channels[0],
                language=options.language,
                model=options.whisper_model,
                translate=self._task.translate,
                prompt=options.prompt,
                hotwords=options.hotwords,
                beam=options.beam_size,
                temperature=options.temperature,
                interim=self._task.interim,
                channels=tuple(channels) if len(channels) > 1 else (),
            ),
        )
        if not options.enhanced_alignment or self._lanes.align is None or self._task.translate:
            return transcribed, []
        spoken: Transcript = transcribed.result
        aligned = []
        for number, audio in enumerate(channels):
            words = tuple(word for word in spoken.words if len(channels) == 1 or word.channel == number)
            aligned.append(await self._run("align", self._lanes.align, Align(audio, words, spoken.language)))
        return transcribed, aligned

    async def detect_language(self, audio: AudioRef) -> Done[Spoken]:
        return await self._job(self._lanes.whisper, DetectLanguage(audio))

    def skip(self, stage: str) -> None:
        """Nothing is to be done in it."""
        self._task.finish(stage)

    async def diarize(self, audio: AudioRef, default: Diarizer) -> Done[Diarization]:
        options = self._task.options
        lane = diarizer_choice.choose(options, default, self._lanes.diarizers, audio.duration)
        counts = (options.num_speakers, options.min_speakers, options.max_speakers)
        return await self._run("diarize", lane, Diarize(audio, *counts))

    @property
    def can_embed(self) -> bool:
        return self._lanes.embed is not None

    async def embed(self, audio: AudioRef, turns: tuple[Turn, ...] | None = None) -> Done[Embeddings]:
        """How the speakers sound; without turns, those of a recording that is not the task's own. Raises NotReady
        where there is no lane for it."""
        if (lane := self._lanes.embed) is None:
            raise NotReady("Voices cannot be compared in this configuration: it has no [embedded] and no [embed].")
        return await self._job(lane, Embed(audio, turns))

    async def decode_other(self, source: str, max_seconds: float) -> AudioRef:
        """Of another recording in the task's folder: a reference of a known speaker."""
        async with self._disk.reserved_for_conversion(decoded_bound(upload_size(source), max_seconds)):
            request = Decode(source, f"{source}.f32", max_seconds)
            done = await self._job(self._lanes.decode, request)
        return done.result

    def _set_deadline(self, duration: float) -> None:
        waited = time.monotonic() - self._arrived
        self._deadline = virtual_deadline(self._task.priority, duration, waited)

    async def _run(self, stage: str, lane: Lane, request: Asks[R]) -> Done[R]:
        done = await self._job(lane, request, partial(self._task.advance, stage))
        self._task.finish(stage)
        return done

    async def _job(self, lane: Lane, request: Asks[R], on_progress: OnProgress | None = None) -> Done[R]:
        return await lane.run(
            request,
            virtual_deadline=self._deadline,
            task=self._task.id,
            priority=self._task.priority,
            on_progress=on_progress,
        )
