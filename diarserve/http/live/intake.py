"""How the binary messages of a client become the audio of its session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from diarserve.core.errors import UnsupportedMedia
from diarserve.live.session import LiveSession
from workers.media.containers import HEAD, sniff

if TYPE_CHECKING:
    from workers.media.sample_stream import SampleStream

Encoding = Literal["pcm_s16le", "float32", "mulaw", "alaw"]  # as workers.media.sample_stream has them

_MAGIC = (b"RIFF", b"OggS", b"fLaC", b"ID3", b"\x1a\x45\xdf\xa3")
_TOLD = 12  # bytes by which such a file is known


class Intake(Protocol):
    async def take(self, data: bytes) -> None:
        """A message, cut anywhere. Raises what LiveSession.append raises."""

    async def finish(self) -> None:
        """No more comes."""


class Samples(Intake):
    def __init__(self, session: LiveSession, stream: SampleStream) -> None:
        self._session, self._stream = session, stream
        self._head: bytes | None = b""  # the first bytes, until they are looked at

    async def take(self, data: bytes) -> None:
        """Raises UnsupportedMedia for a file: taken for samples, it would be heard as noise."""
        if self._head is not None:
            self._head += data[:_TOLD]
            if is_recording(self._head):
                raise UnsupportedMedia("This is no bare samples: leave `encoding` out to send a recording as it is.")
            if len(self._head) >= _TOLD:
                self._head = None
        await self._session.append(self._stream.feed(data))

    async def finish(self) -> None:
        await self._session.append(self._stream.flush())
        await self._session.finish()


class Recording(Intake):
    """In any container that recordings may come in."""

    def __init__(self, session: LiveSession) -> None:
        self._session = session

    async def take(self, data: bytes) -> None:
        await self._session.append_recording(data)

    async def finish(self) -> None:
        await self._session.finish()


class Either(Intake):
    """A recording where the first bytes are the signature of one, else samples. MP3 and AAC without a signature look
    like samples: they have to be announced."""

    def __init__(self, session: LiveSession, stream: SampleStream) -> None:
        self._session, self._stream = session, stream
        self._head = b""
        self._found: Intake | None = None

    async def take(self, data: bytes) -> None:
        if self._found:
            await self._found.take(data)
            return
        self._head += data
        if len(self._head) >= _TOLD:
            await self._find().take(self._head)

    async def finish(self) -> None:
        if self._found is None and self._head:
            await self._find().take(self._head)
        await (self._found or Samples(self._session, self._stream)).finish()

    def _find(self) -> Intake:
        known = is_recording(self._head)
        self._found = Recording(self._session) if known else Samples(self._session, self._stream)
        return self._found


def is_recording(head: bytes) -> bool:
    """By its first bytes, which samples do not begin with but by chance of 1 in 4 billion."""
    return head.startswith(_MAGIC) or sniff(head[:HEAD].ljust(HEAD, b"\0")) in ("mov", "aiff", "amr")
