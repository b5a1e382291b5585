"""What the protocols need of a live session, and how they open one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from aiohttp import web
from msgspec import Struct

from diarserve.live.events import Event


class Listening(Struct, frozen=True, kw_only=True):
    """What a client asks of a session; what is not said is as configured."""

    language: str | None = None
    model: str | None = None
    prompt: str | None = None
    hotwords: str | None = None
    interim: bool = True
    endpointing: float = 0.5  # seconds of silence that end an utterance
    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    keep: bool = True  # whether its transcript is a task that can be asked for afterwards


class Session(Protocol):
    """Samples are 16-bit little-endian, mono, 16 kHz. Every method raises ServiceError where the session has ended."""

    @property
    def task_id(self) -> str: ...

    async def append(self, pcm: bytes) -> None:
        """Waits while the session is too far behind. Without samples it only says that the client is there."""
        ...

    async def finalize(self) -> None: ...

    async def finish(self) -> None: ...

    async def close(self) -> None: ...

    def events(self) -> AsyncIterator[Event]: ...


Open = Callable[[Listening, str], Awaitable[Session]]

# Opens a session for an owner. Raises ServiceError: Busy where there are as many sessions as may be.
OPEN: web.AppKey[Open] = web.AppKey("open_live_session")
