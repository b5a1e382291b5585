"""What a live session tells, in order. Each protocol (diarserve.http.live) writes them in its own words.

Times are seconds from the session's first sample. A word that is in a Final never changes its text or its times, and is
told once; its speaker changes by a Correction alone. An Interim takes the place of the Interim before it.
"""

from __future__ import annotations

from msgspec import Struct

from diarserve.core.errors import ServiceError
from diarserve.transcript.document import Document, Word


class SpeechStarted(Struct, frozen=True, tag="speech_started"):
    time: float


class Interim(Struct, frozen=True, tag="interim"):
    """What is heard after the last final word, as far as is known now; its speakers may be UNKNOWN."""

    words: tuple[Word, ...]


class Final(Struct, frozen=True, tag="final"):
    """Words that are final, at least one, in order of time. `first`: the number of the first of them in the session,
    from 0; `utterance`: the number of the utterance that they belong to."""

    first: int
    utterance: int
    words: tuple[Word, ...]


class Correction(Struct, frozen=True, tag="correction"):
    """A better judgement of who said the final words from number `first` up to, not including, `past`."""

    first: int
    past: int
    speaker: str


class UtteranceEnd(Struct, frozen=True, tag="utterance_end"):
    """The speech stopped for as long as ends an utterance; all of its words are final. Also after `finalize`."""

    utterance: int
    time: float  # where its last word ends
    finalized: bool = False  # the client asked for it


class Lag(Struct, frozen=True, tag="lag"):
    """Told where it changes by much: seconds of audio that are here and not yet recognized."""

    seconds: float


class Spoken(Struct, frozen=True, tag="spoken"):
    """After `finish`: every word is told, and the document of the whole is being made."""


class Ended(Struct, frozen=True, tag="done"):
    """The last event: the whole session by the offline path, which is a finished task like any other."""

    document: Document


class Broken(Struct):
    """The last event of a session that cannot go on."""

    error: ServiceError


Event = SpeechStarted | Interim | Final | Correction | UtteranceEnd | Lag | Spoken | Ended | Broken
