"""Who speaks when, and where voices are known, what the speakers are called."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from diarserve.core.errors import InvalidRequest, ServiceError, Unprocessable, is_temporary
from diarserve.core.types import Diarizer
from diarserve.service.stages import Stages
from diarserve.tasks.task import Task
from diarserve.transcript.channels import turns_of
from diarserve.transcript.document import SpeakerEmbedding, SpeakerMatch
from diarserve.voices.matching import Heard, Known, match, vector
from diarserve.voices.quality import LEAST_SPEECH, one_voice
from diarserve.voices.voice import Voice, known_voices
from workers.messages import Alignment, AudioRef, Diarization, Done, Embeddings, Transcript, Turn

SHORTEST, LONGEST = 2.0, 10.0  # seconds of a reference, as OpenAI has it
_SLACK = 0.25  # seconds: encoders pad
_PARAM = "known_speaker_references"


@dataclass(frozen=True, slots=True)
class Speakers:
    diarized: Done[Diarization]
    diarization: Diarization  # with the names of those who are known
    embedded: Done[Embeddings] | None = None
    matches: tuple[SpeakerMatch, ...] | UnsetType = UNSET
    embeddings: tuple[SpeakerEmbedding, ...] | UnsetType = UNSET
    warnings: tuple[str, ...] = ()


async def find_speakers(
    stages: Stages, task: Task, audio: AudioRef, default: Diarizer, voices: Sequence[Voice]
) -> Speakers:
    """Diarize; where the task asks for it, compare the speakers with those whose references it has and with stored
    voices. Raises ServiceError."""
    wanted = task.options.compares_voices and stages.can_embed
    references, warnings = await _references(stages, task) if wanted else ([], [])
    diarized = await stages.diarize(audio, default)
    diarization: Diarization = diarized.result
    if not wanted:
        task.turns = diarization.turns
        return Speakers(diarized, diarization)
    embedded = await stages.embed(audio, diarization.turns)
    answer: Embeddings = embedded.result
    found: tuple[SpeakerMatch, ...] | UnsetType = UNSET
    names: dict[str, str] = {}
    if task.options.known_speaker_names or task.options.known_voices:
        stored, old = known_voices(voices, answer.model)
        given = {one.name for one in references}
        known = [*references, *(one for one in stored if one.name not in given)]
        matches = await asyncio.to_thread(match, _heard(diarization.turns, answer), known)
        names = {one.diarized: one.speaker for one in matches}
        found, warnings = tuple(matches), [*warnings, *old]
    diarization = _renamed(diarization, names)
    task.turns = diarization.turns
    vectors = _embeddings(answer, names) if task.options.speaker_embeddings else UNSET
    return Speakers(diarized, diarization, embedded, found, vectors, tuple(warnings))


def by_channel(transcribed: Done[Transcript], aligned: Sequence[Done[Alignment]]) -> Speakers:
    """Where each channel is a speaker: no diarizer runs, the words are the turns."""
    words = [word for done in aligned or (transcribed,) for word in done.result.words]
    diarization = Diarization(tuple(turns_of(words)), "channels")
    ended = transcribed.finished
    return Speakers(Done(transcribed.job, diarization, 0.0, 0.0, finished=ended), diarization)


def _renamed(diarization: Diarization, names: Mapping[str, str]) -> Diarization:
    def name(speaker: str) -> str:
        return names.get(speaker, speaker)

    turns = tuple(Turn(turn.start, turn.end, name(turn.speaker)) for turn in diarization.turns)
    activity = diarization.activity
    if activity:
        activity = replace(activity, speakers=tuple(map(name, activity.speakers)))
    return replace(diarization, turns=turns, activity=activity)


async def _references(stages: Stages, task: Task) -> tuple[list[Known], list[str]]:
    known, warnings = [], []
    for number, name in enumerate(task.options.known_speaker_names):
        try:
            answer = await _reference(stages, task.reference(number), name)
        except ServiceError as error:
            if is_temporary(error) or error.param == _PARAM:
                raise
            raise type(error)(f"The reference of {name}: {error.message}", code=error.code, param=_PARAM) from error
        voice, alone = one_voice(answer)
        if voice is None:
            message = f"The reference of {name} holds less than {LEAST_SPEECH:.0f} s of speech: send a longer one."
            raise Unprocessable(message, code="too_little_speech", param=_PARAM)
        if not alone:
            warnings.append(f"the reference of {name} has several speakers: the one who speaks longest was taken")
        known.append(Known(name, vector(voice.embedding)))
    return known, warnings


async def _reference(stages: Stages, source: str, name: str) -> Embeddings:
    audio = await stages.decode_other(source, max_seconds=60.0)
    if not SHORTEST - _SLACK <= audio.duration <= LONGEST + _SLACK:
        raise InvalidRequest(
            f"The reference of {name} lasts {audio.duration:.1f} s: send {SHORTEST:.0f} to {LONGEST:.0f} s of speech.",
            code="reference_length",
            param=_PARAM,
        )
    answer: Embeddings = (await stages.embed(audio)).result
    return answer


def _heard(turns: Sequence[Turn], answer: Embeddings) -> list[Heard]:
    """Every speaker, by first appearance; those who never speak alone without a vector."""
    voices = {voice.speaker: voice for voice in answer.voices}
    return [
        Heard(speaker, vector(voices[speaker].embedding), voices[speaker].seconds)
        if speaker in voices
        else Heard(speaker, (), 0.0)
        for speaker in dict.fromkeys(turn.speaker for turn in turns)
    ]


def _embeddings(answer: Embeddings, names: Mapping[str, str]) -> tuple[SpeakerEmbedding, ...]:
    return tuple(
        SpeakerEmbedding(
            names.get(voice.speaker, voice.speaker),
            tuple(round(value, 6) for value in vector(voice.embedding)),
            voice.seconds,
            answer.model,
        )
        for voice in answer.voices
    )
