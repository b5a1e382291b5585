"""What crosses the channel for a live job: one whose audio keeps arriving (docs/live.md).

A `Listen` or `Follow` (workers.messages) is submitted like any job. Its audio is a file that the server appends 16-bit
samples to: `Append` says how many there are, and the worker reads those that it wants. The worker answers with any
number of `Heard`, and, once it is told that no more comes, with Done. `Awaiting` says that it has nothing to do until
more comes. Of an `Unpack` the file is a recording in a container, and bytes are counted where others count samples.

    worker.send(Submit("whisper-7", "task", Listen(AudioRef("/live/audio.pcm", 0, pcm=0)), deadline))
    worker.send(Append("whisper-7", samples=16_000))
    # ... and back: Heard("whisper-7", LiveWords(heard=1.0, ...)), Awaiting("whisper-7", 16_000)
"""

from __future__ import annotations

from workers.messages.values import Message, Turn, Word


class Append(Message, frozen=True):
    """Server to worker: the job's file has so many samples by now. Of several that a job has not looked at yet it sees
    the sum: all samples, and whether any asked to flush."""

    job: str
    samples: int  # since the session's start
    flush: bool = False  # make all that was heard final; of an Unpack: go on with the bytes that are there
    end: bool = False  # no more comes: make it final, and be done


class LiveWords(Message, frozen=True):
    """What a live recognition has heard since its last output. Times are seconds from the session's start."""

    final: tuple[Word, ...] = ()  # they follow those of earlier outputs, and never change
    interim: tuple[Word, ...] = ()  # what follows them, as far as is known now
    heard: float = 0.0  # up to where the audio is recognized, or known to hold no speech
    utterance_end: float | None = None  # the utterance ended with the final words above: where its last word ends
    speech_started: float | None = None  # a new utterance began there, before the words above
    flushed: bool = False  # a flush is done: all that was heard by then is final
    state: bytes = b""  # with which a job goes on after this output (Listen.resume)


class LiveTurns(Message, frozen=True):
    """What a live diarization knows from `since` on; it takes the place of all that it told of that time."""

    turns: tuple[Turn, ...]  # that end after `since`, sorted by start; whole, also where they begin before it
    since: float
    until: float  # up to where turns are settled: a speaker may still change later, but the audio is looked at
    state: bytes = b""  # as LiveWords.state (Follow.resume)


class LiveSamples(Message, frozen=True):
    """What a recording that keeps arriving holds, after its last output."""

    pcm: bytes  # 16-bit little-endian, mono, 16 kHz; at most UNPACKED seconds of it
    seen: int  # bytes of the recording that were there
    more: bool = False  # they hold more, which is told after the next Append
    state: bytes = b""  # as LiveWords.state (Unpack.resume)


UNPACKED = 10  # seconds of audio in one LiveSamples

LiveOutput = LiveWords | LiveTurns | LiveSamples


class Heard(Message, frozen=True):
    """Worker to server: an output of a live job."""

    job: str
    output: LiveOutput


class Awaiting(Message, frozen=True):
    """Worker to server: the job has looked at so many samples and waits for more. Also the answer to an Append that is
    too little to go on with, so that a job that waits can be told from one that hangs."""

    job: str
    samples: int


class LiveEnd(Message, frozen=True):
    """The result of a live job: all was told before."""

    model: str
    warnings: tuple[str, ...] = ()
