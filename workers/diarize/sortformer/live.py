"""Turns of audio that keeps arriving (docs/live.md): the streaming network, 0.48 s at a time.

A speaker is an output of the network, which its cache keeps the same. What was told of a time is not judged again.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from workers.diarize.binarize import PostProcessing, Probabilities, reassigned, speech_of
from workers.diarize.sortformer.network import FRAME_SECONDS, HOP
from workers.diarize.sortformer.streaming import LIVE_AHEAD, LIVE_CHUNK, MARGIN, Kept, LiveChunk
from workers.diarize.turns import speaker_name
from workers.engine import Await, Emit, LiveSteps, WorkItem
from workers.media.samples import load_part
from workers.messages import SAMPLE_RATE, AudioRef, Follow, Turn
from workers.messages.live import Append, LiveEnd, LiveTurns

RECENT = 64  # frames, 5 s, in which speech is looked for anew; a turn that began earlier goes on


class State(msgspec.Struct, array_like=True):
    """What a session goes on with in another worker."""

    first: int = 0  # mel frame of the next chunk
    kept: Kept = Kept()
    frames: int = 0  # of the network's output so far
    recent: bytes = b""  # (frames, speakers) float32: the last of them
    outputs: list[int] = []  # of the network, by the numbers of their speakers
    turns: list[tuple[float, float, str]] = []  # of the last output


class Talk:
    """A session's turns, from the probabilities of frame after frame: those that offline post-processing makes of all
    of them."""

    def __init__(self, how: PostProcessing, most: int | None, state: State, speakers: int) -> None:
        """most: speakers there may be. speakers: outputs of the network."""
        self.how, self.most = how, most
        # Up to here before a frame its probabilities change turns.
        self.reach = how.pad_onset + how.pad_offset + how.min_duration_on + how.min_duration_off + FRAME_SECONDS
        self.frames = state.frames
        self.recent: Probabilities = np.frombuffer(state.recent, np.float32).reshape(-1, speakers)
        self.outputs = list(state.outputs)
        self.turns = [Turn(*turn) for turn in state.turns]

    def add(self, found: Probabilities, end: float = math.inf) -> float:
        """found: (frames, speakers) of the next frames. end: of the audio, in seconds. Returns the time from which on
        `turns` take the place of earlier ones."""
        since = round(max(0.0, self.frames * FRAME_SECONDS - self.reach), 3)
        self.frames += len(found)
        self.recent = np.concatenate([self.recent, found])[-RECENT - math.ceil(2 * self.reach / FRAME_SECONDS) :]
        spans = self.spans(self.recent, since, end)
        for _, _, output in sorted(spans, key=lambda span: (span[0], span[2])):
            if output not in self.outputs and len(self.outputs) != self.most:
                self.outputs.append(output)
        if any(output not in self.outputs for _, _, output in spans):  # those who came first take over the rest
            spans = self.spans(reassigned(self.recent, self.outputs, self.how), since, end)
        begun = {turn.speaker: turn.start for turn in self.turns if turn.start < since < turn.end}
        turns = []
        for start, stop, output in spans:
            speaker = speaker_name(self.outputs.index(output))
            turns.append(Turn(begun.pop(speaker, since) if start < since else start, stop, speaker))
        turns += [Turn(start, since, speaker) for speaker, start in begun.items()]  # they end where they are cut
        self.turns = sorted(turns, key=lambda turn: (turn.start, turn.speaker))
        return since

    def spans(self, recent: Probabilities, since: float, end: float) -> list[tuple[float, float, int]]:
        """Those that end after `since`: (start, end, output)."""
        first = (self.frames - len(recent)) * FRAME_SECONDS
        found = speech_of(recent, FRAME_SECONDS, end - first, self.how)
        spans = sorted((round(first + start, 3), round(first + stop, 3), output) for start, stop, output in found)
        return [span for span in spans if span[1] > since]


class Follower:
    """A session: what the network and its turns go on with."""

    def __init__(self, how: PostProcessing, most: int | None, left: int, speakers: int, resume: bytes = b"") -> None:
        """left: mel frames that are heard before a chunk."""
        state = msgspec.msgpack.decode(resume, type=State) if resume else State()
        self.left, self.first, self.kept = left, state.first, state.kept
        self.talk = Talk(how, most, state, speakers)

    @property
    def needed(self) -> int:
        """Samples with which the next chunk can be judged."""
        return (self.first + LIVE_CHUNK + LIVE_AHEAD + MARGIN) * HOP

    def chunk(self, audio: AudioRef, samples: int, *, end: bool) -> LiveChunk | None:
        """The next one, of so many samples, if there is one. end: no more samples come."""
        total = samples // HOP
        if self.first >= total or not (end or samples >= self.needed):
            return None
        past = min(self.first + LIVE_CHUNK, total)
        ahead = min(LIVE_AHEAD, total - past)
        left = min(self.left, self.first)
        lead = min(MARGIN, self.first - left)
        part = load_part(audio, (self.first - left - lead) * HOP, min((past + ahead + MARGIN) * HOP, samples))
        return LiveChunk(part, lead, left, past - self.first, ahead, self.kept)

    def take(self, chunk: LiveChunk, kept: Kept, found: Probabilities, end: float) -> LiveTurns:
        """What a chunk has told. end: of the audio, in seconds."""
        self.first, self.kept = self.first + chunk.length, kept
        talk = self.talk
        since = talk.add(found, end)
        turns = [(turn.start, turn.end, turn.speaker) for turn in talk.turns]
        state = State(self.first, kept, talk.frames, talk.recent.tobytes(), talk.outputs, turns)
        until = min(talk.frames * FRAME_SECONDS, end)
        return LiveTurns(tuple(talk.turns), since, until, msgspec.msgpack.encode(state))


def follow(request: Follow, follower: Follower, model: str) -> LiveSteps:
    """The job of one session."""
    while True:
        more: Append = yield Await(follower.needed)
        end = more.samples / SAMPLE_RATE if more.end else math.inf
        while chunk := follower.chunk(request.audio, more.samples, end=more.end):
            [(kept, found)] = yield [WorkItem(("live", chunk.left, chunk.lead), chunk)]
            yield Emit(follower.take(chunk, kept, found, end))
        if more.end:
            return LiveEnd(model)
