"""Where utterances begin and end, told from the probabilities of speech as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE
from workers.whisper.vad import MIN_SPEECH, PAD, SILENCE, SPEECH, WINDOW, Span

PAD_SAMPLES = int(PAD * SAMPLE_RATE)


@dataclass(slots=True)
class Endpoints:
    """All positions are samples from the session's start."""

    silence: float  # seconds that end an utterance
    checked: int = 0  # up to where it is known
    start: int | None = None  # of the utterance that goes on, with some silence before it; None: nobody speaks
    speech: int = 0  # samples of speech in it
    last: int = 0  # where its speech was last heard
    floor: int = 0  # where the utterance before it ended
    spans: list[Span] = field(default_factory=list)  # of speech that ended, with some silence around each
    begin: int = 0  # of the span that goes on: an utterance with pauses has several

    @property
    def is_speech(self) -> bool:
        """Whether the utterance is more than a click."""
        return self.speech >= MIN_SPEECH * SAMPLE_RATE

    def feed(self, probabilities: Samples) -> Iterator[tuple[int, int]]:
        """Probabilities of the windows from `checked` on. Yields the utterances that ended."""
        for probability in probabilities:
            window, self.checked = self.checked, self.checked + WINDOW
            if probability >= (SPEECH if self.start is None else SILENCE):
                if self.start is None:
                    self.start, self.speech = max(self.floor, window - PAD_SAMPLES), 0
                    self.begin = self.start
                elif window - self.last > 2 * PAD_SAMPLES:
                    self.spans.append((self.begin, self.last + PAD_SAMPLES))
                    self.begin = window - PAD_SAMPLES
                self.speech, self.last = self.speech + WINDOW, self.checked
            elif self.start is not None and self.checked - self.last >= self.silence * SAMPLE_RATE:
                start, is_speech = self.start, self.is_speech
                end = self.end()
                if is_speech:
                    yield start, end

    def end(self, until: int = 0) -> int:
        """The utterance ends here; where that is, with some silence after it. until: where the audio ends."""
        end = min(self.last + PAD_SAMPLES, max(self.checked, until))
        if self.is_speech:
            self.spans.append((self.begin, end))
        self.start, self.speech, self.floor = None, 0, end
        return end

    def between(self, start: int, end: int) -> tuple[Span, ...]:
        """The speech between two samples: with the silence left out, it is what the offline path would decode."""
        going = [(self.begin, self.last + PAD_SAMPLES)] if self.start is not None else []
        clipped = [(max(start, first), min(end, past)) for first, past in [*self.spans, *going]]
        return tuple((first, past) for first, past in clipped if past > first)

    def forget(self, before: int) -> None:
        """Speech that ended before that sample."""
        self.spans = [span for span in self.spans if span[1] > before]


def size_of(spans: Sequence[Span]) -> int:
    return sum(past - first for first, past in spans)
