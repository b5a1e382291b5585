"""Who speaks when, and where voices are known, what the speakers are called."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from diarserve.core.errors import InvalidRequest, ServiceError, Unprocessable, is_temporary
from diarserve.core.types import Diarizer
from diarserve.service.stages import Stages
from diarserve.tasks.task import Task
from diarserve.transcript.channels import speaker, turns_of
from diarserve.transcript.document import SpeakerEmbedding, SpeakerMatch
from diarserve.voices.matching import Heard, Known, match, vector
from diarserve.voices.quality import LEAST_SPEECH, one_voice
from diarserve.voices.voice import Voice, known_voices
from workers.messages import Alignment, AudioRef, Diarization, Done, Embeddings, Transcript, Turn
from workers.messages import Voice as HeardVoice

SHORTEST, LONGEST = 2.0, 10.0  # seconds of a reference, as OpenAI has it
_SLACK = 0.25  # seconds: encoders pad
_PARAM = "known_speaker_references"


@dataclass(frozen=True, slots=True)
class Speakers:
    diarized: Done[Diarization]
    diarization: Diarization  # with the names of those who are known
    names: Mapping[str, str] = field(default_factory=dict)  # of those who are known, by what the diarizer calls them
    embedded: Sequence[Done[Embeddings]] = ()
    matches: tuple[SpeakerMatch, ...] | UnsetType = UNSET
    embeddings: tuple[SpeakerEmbedding, ...] | UnsetType = UNSET
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class References:
    voices: Sequence[Known]
    warnings: Sequence[str]


async def find_speakers(
    stages: Stages, task: Task, audio: AudioRef, default: Diarizer, voices: Sequence[Voice]
) -> Speakers:
    """Diarize; where the task asks for it, compare the speakers with those whose references it has and with stored
    voices. Raises ServiceError."""
    given = await references(stages, task)
    diarized = await stages.diarize(audio, default)
    diarization: Diarization = diarized.result
    if given is None:
        found = Speakers(diarized, diarization)
    else:
        embedded = await stages.embed(audio, diarization.turns)
        found = await _named(task, diarized, [embedded], given, voices)
    task.turns = found.diarization.turns
    return found


async def speakers_of_channels(
    stages: Stages,
    task: Task,
    channels: Sequence[AudioRef],
    transcribed: Done[Transcript],
    aligned: Sequence[Done[Alignment]],
    given: References | None,
    voices: Sequence[Voice],
) -> Speakers:
    """As `find_speakers` where each channel is a speaker: no diarizer runs, the words are the turns. Each channel's
    speaker is heard in that channel."""
    words = [word for done in aligned or (transcribed,) for word in done.result.words]
    diarization = Diarization(tuple(turns_of(words)), "channels")
    diarized = Done(transcribed.job, diarization, 0.0, 0.0, finished=transcribed.finished)
    if given is None:
        return Speakers(diarized, diarization)
    embedded = []
    for number, audio in enumerate(channels):
        if own := tuple(turn for turn in diarization.turns if turn.speaker == speaker(number)):
            embedded.append(await stages.embed(audio, own))
    return await _named(task, diarized, embedded, given, voices)


async def references(stages: Stages, task: Task) -> References | None:
    """Of the task's known speakers; None where it compares no voices, or no lane can. Raises ServiceError."""
    if not (task.options.compares_voices and stages.can_embed):
        return None
    known, warnings = await _references(stages, task)
    return References(known, warnings)


async def _named(
    task: Task,
    diarized: Done[Diarization],
    embedded: Sequence[Done[Embeddings]],
    given: References,
    stored: Sequence[Voice],
) -> Speakers:
    diarization, heard = diarized.result, [voice for done in embedded for voice in done.result.voices]
    model = embedded[0].result.model if embedded else ""
    matches: tuple[SpeakerMatch, ...] | UnsetType = UNSET
    names: dict[str, str] = {}
    warnings = list(given.warnings)
    if task.options.known_speaker_names or task.options.known_voices:
        comparable, outdated = known_voices(stored, model) if embedded else ([], [])
        taken = {one.name for one in given.voices}
        known = [*given.voices, *(one for one in comparable if one.name not in taken)]
        matches = tuple(await asyncio.to_thread(match, _heard(diarization.turns, heard), known))
        names = {one.diarized: one.speaker for one in matches}
        warnings += outdated
    vectors = _embeddings(heard, model, names) if task.options.speaker_embeddings else UNSET
    return Speakers(diarized, _renamed(diarization, names), names, embedded, matches, vectors, tuple(warnings))


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


def _heard(turns: Sequence[Turn], found: Sequence[HeardVoice]) -> list[Heard]:
    """Every speaker, by first appearance; those who never speak alone without a vector."""
    voices = {voice.speaker: voice for voice in found}
    return [
        Heard(speaker, vector(voices[speaker].embedding), voices[speaker].seconds)
        if speaker in voices
        else Heard(speaker, (), 0.0)
        for speaker in dict.fromkeys(turn.speaker for turn in turns)
    ]


def _embeddings(voices: Sequence[HeardVoice], model: str, names: Mapping[str, str]) -> tuple[SpeakerEmbedding, ...]:
    return tuple(
        SpeakerEmbedding(
            names.get(voice.speaker, voice.speaker),
            tuple(round(value, 6) for value in vector(voice.embedding)),
            voice.seconds,
            model,
        )
        for voice in voices
    )
