"""Incremental recognition: words of audio that keeps arriving (docs/live.md)."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from msgspec import Struct, msgpack
from msgspec.structs import replace as with_times

from workers.engine import Await, Emit, LiveSteps, WorkItem
from workers.media.samples import PCM_SCALE, Samples
from workers.messages import SAMPLE_RATE, Listen, Word
from workers.messages.live import Append, LiveEnd, LiveWords
from workers.whisper.agreement import Agreement, following, without_echo
from workers.whisper.decoding import Decoding, Written
from workers.whisper.endpoints import PAD_SAMPLES, Endpoints, size_of
from workers.whisper.items import placed
from workers.whisper.recognizer import WINDOW_SECONDS, window
from workers.whisper.vad import LEAD, WINDOW, Chunk, Piece, Span

T = TypeVar("T")
Part = Generator[list[WorkItem] | Await | Emit, Any, T]

LOOK = 0.2  # seconds of new audio in which the beginning and the end of speech are looked for
INTERVAL = 0.7  # seconds of new audio for which an utterance is decoded again, or where that takes long ...
PATIENCE = 1.5  # ... times as long as the last decoding took: a machine that is behind decodes less often
LONGEST_INTERVAL = 5.0
BEAM = 3  # of decodings before the utterance ends: with 1 a WER of 0.21 in place of 0.19, in the same CPU time
# Seconds before the newest sample, up to where words in which two hypotheses agree are final. With 0.7 they are final
# 0.1 s later and no better: WER 0.200 and 0.189 on two grids.
SURE = 0.3
# Seconds before the newest sample, up to where all words are final. With 2.4, 3 errors of 186 words less on one grid,
# but the latest words (p95) are final 2.9 s of audio after their end instead of 2.6.
LATE = 2.0
# Seconds of what is final that are decoded with what follows, as its beginning: without, words that one utterance
# shares with the next are lost or written as others.
BEFORE = 8.0
QUICK = 0.5  # seconds that a decoding takes: where it takes longer, as with many sessions, nothing is decoded again
TRIM_SECONDS = 14.0  # of decoded speech, after which the final sentences before the last `BEFORE` seconds are left out
MOST_SECONDS = 18.0  # of it, after which it begins anew, as with noise that has no words
READ_SECONDS = 10.0  # of audio at a time: beside MOST_SECONDS it fits into the 30 s that Whisper hears
CONTEXT = 200  # characters of final text that the model is given as what was said before: without, words are lost
SHORTEST = SAMPLE_RATE // 10
END = 0.1  # seconds after a final word, from where the rest is decoded


class State(Struct, array_like=True):
    """With which another worker goes on."""

    start: int = 0  # samples: what is decoded begins here, with ...
    final: tuple[Word, ...] = ()  # ... these words
    floor: int = 0  # samples: from here on nothing is final
    speaks: bool = False  # an utterance goes on
    text: str = ""  # that is final, before `start`
    spans: tuple[Span, ...] = ()  # of speech between `start` and `floor`


class Listener:
    """One session. Times of words are seconds from its start."""

    def __init__(self, request: Listen, name: str, decoding: Decoding) -> None:
        self._request, self._name, self._decoding = request, name, decoding
        state = msgpack.decode(request.resume, type=State) if request.resume else State()
        self._agreement = Agreement(list(state.final))
        self._text = state.text
        self._speaks = state.speaks  # whether the beginning of the utterance was told
        self._start = state.start  # of what is decoded
        first = state.floor - state.floor % WINDOW
        self._ends = Endpoints(request.endpointing, checked=first, floor=state.floor, spans=list(state.spans))
        if state.speaks:
            self._ends.start = self._ends.begin = state.floor
            self._ends.last, self._ends.speech = first, SAMPLE_RATE
        self._took = 0.0  # seconds of the last decoding
        self._decoded = state.floor  # up to where

    def steps(self) -> LiveSteps:
        while True:
            more: Append = yield Await(self._ends.checked + int(LOOK * SAMPLE_RATE))
            while True:
                until = min(more.samples, self._ends.checked + int(READ_SECONDS * SAMPLE_RATE))
                is_last = until == more.samples
                yield from self._look(until)
                if is_last and (more.flush or more.end):
                    yield from self._flush(until, flushed=more.flush)
                elif until - self._decoded >= self._interval() * SAMPLE_RATE:
                    yield from self._decode(until)
                    self._decoded = until
                if is_last:
                    break
            if more.end:
                return LiveEnd(self._name)

    def _interval(self) -> float:
        return min(max(INTERVAL, PATIENCE * self._took), LONGEST_INTERVAL)

    def _look(self, until: int) -> Part[None]:
        """Find speech up to there, and make the utterances final that ended."""
        first = self._ends.checked
        windows = (until - first) // WINDOW
        if not windows:
            return
        lead = min(LEAD, first // WINDOW)
        audio = self._read(first - lead * WINDOW, first + windows * WINDOW)
        [probabilities] = yield [WorkItem(("vad",), Piece(audio, lead))]
        for start, end in self._ends.feed(probabilities):
            yield from self._note_start(start)
            yield from self._finish(end)
        if self._ends.start is not None and self._ends.is_speech:
            yield from self._note_start(self._ends.start)

    def _note_start(self, start: int) -> Part[None]:
        if not self._speaks:
            if self._took > QUICK:
                self._forget(self._agreement.forget(start / SAMPLE_RATE))
            if not self._agreement.final:
                self._start = start
            self._speaks = True
            yield self._emit(start, speech_started=start / SAMPLE_RATE)

    def _decode(self, until: int) -> Part[None]:
        """The utterance so far; nothing where nobody speaks, or has spoken since the last time."""
        if not self._speaks or self._ends.last <= self._decoded:
            interim = tuple(self._agreement.hypothesis) if self._speaks and self._request.interim else ()
            yield self._emit(until if self._speaks else self._quiet_until(), interim=interim)
            return
        words = yield from self._write(until, replace(self._decoding, beam=BEAM))
        now = until / SAMPLE_RATE
        final = self._agreement.add(words, now - SURE, now - LATE)
        if size_of(self._ends.between(self._start, until)) > TRIM_SECONDS * SAMPLE_RATE:
            self._trim(until)
        if size_of(self._ends.between(self._start, until)) > MOST_SECONDS * SAMPLE_RATE:
            self._forget(self._agreement.forget(now))
            self._start = max(self._start, int((now - LATE) * SAMPLE_RATE))
        interim = tuple(self._agreement.hypothesis) if self._request.interim else ()
        yield self._emit(until, tuple(final), interim)

    def _trim(self, until: int) -> None:
        before = BEFORE if self._took <= QUICK else 0.0
        self._forget(self._agreement.forget_sentences(until / SAMPLE_RATE - before))

    def _forget(self, gone: Sequence[Word]) -> None:
        """Those final words are only text from now on."""
        if gone:
            self._text = (self._text + "".join(word.word for word in gone))[-CONTEXT:]
            last, rest = gone[-1].end, [*self._agreement.final, *self._agreement.hypothesis]
            middle = (last + rest[0].start) / 2 if rest else last + END
            self._start = int(min(max(last, middle), last + END) * SAMPLE_RATE)

    def _finish(self, end: int, *, flushed: bool = False) -> Part[None]:
        """The utterance ended there: all of its words are final."""
        words = self._agreement.finish((yield from self._write(end, self._decoding)))
        self._speaks = False
        self._trim(end)
        if not self._agreement.final:
            self._start = end
        at = words[-1].end if words else min(end, self._ends.checked) / SAMPLE_RATE
        yield self._emit(end, tuple(words), utterance_end=at, flushed=flushed)

    def _flush(self, until: int, *, flushed: bool) -> Part[None]:
        speaks = self._ends.start is not None and self._speaks
        self._ends.end(until)
        self._ends.floor = until
        if speaks:
            yield from self._finish(until, flushed=flushed)
        else:
            yield self._emit(until, flushed=flushed)

    def _write(self, until: int, decoding: Decoding) -> Part[list[Word]]:
        """What is said after the final words up to there."""
        began = time.monotonic()
        self._ends.forget(self._start)
        spans = self._ends.between(self._start, until)
        if size_of(spans) < SHORTEST:
            return []
        begin = spans[0][0]
        chunk = Chunk(self._read(begin, spans[-1][1]), tuple((first - begin, past - begin) for first, past in spans))
        context = f"{decoding.prompt or ''} {self._text}".strip()
        known = "".join(word.word for word in self._agreement.final)
        decoding = replace(decoding, prompt=context or None, beginning=known or None)
        written = yield from self._step(chunk, decoding)
        if written.language is None and written.odds:  # it is not sure: the likeliest then
            likeliest = max(written.odds, key=written.odds.__getitem__)
            written = yield from self._step(chunk, replace(decoding, language=likeliest))
        self._took = time.monotonic() - began
        shift = begin / SAMPLE_RATE
        return [
            with_times(word, start=round(word.start + shift, 3), end=round(word.end + shift, 3))
            for word in placed(chunk, following(without_echo(written.words), known))
        ]

    def _step(self, chunk: Chunk, decoding: Decoding) -> Part[Written]:
        size = window(chunk.seconds) / WINDOW_SECONDS
        [written] = yield [WorkItem(("asr", self._name, decoding), chunk, size=size)]
        made: Written = written
        return made

    def _emit(self, until: int, final: tuple[Word, ...] = (), interim: tuple[Word, ...] = (), **what: Any) -> Emit:
        known = self._agreement.final
        floor = self._quiet_until()
        if not self._speaks and not known:
            self._start = max(self._start, floor)
        if self._speaks and known:
            floor = max(floor, int(known[-1].end * SAMPLE_RATE))
        spans = self._ends.between(self._start, floor)
        state = State(self._start, tuple(known), floor, self._speaks, self._text, spans)
        return Emit(LiveWords(final, interim, until / SAMPLE_RATE, state=msgpack.encode(state), **what))

    def _quiet_until(self) -> int:
        """While nobody speaks: up to where there is no word. What is just before may belong to one that begins."""
        before = self._ends.checked - PAD_SAMPLES if self._ends.start is None else self._ends.start
        return max(before, self._ends.floor)

    def _read(self, start: int, end: int) -> Samples:
        audio = self._request.audio
        read = np.fromfile(audio.path, "<i2", end - start, offset=(audio.pcm or 0) + 2 * start)
        return read * PCM_SCALE
