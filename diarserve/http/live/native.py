"""The server's own live protocol: binary frames of samples in, events as JSON out.

The events of diarserve.live.events as they are, each with its `type`, and before them `ready`; the last is `done` or
`error`. Text frames of the client: {"type": "finalize"}, {"type": "finish"}, {"type": "keepalive"}.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from aiohttp import web
from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from diarserve.core.errors import ErrorCode, InvalidRequest, ServiceError, UnsupportedMedia
from diarserve.core.options import Count, Long, Options, Text, parse, validate
from diarserve.core.settings import MIB
from diarserve.http.live import conversation
from diarserve.http.openapi.describe import Answer, describe, parameters_of
from diarserve.live.events import (
    Broken,
    Correction,
    Ended,
    Event,
    Final,
    Interim,
    Lag,
    SpeechStarted,
    Spoken,
    UtteranceEnd,
)
from diarserve.live.options import LiveOptions
from diarserve.live.session import LiveSession
from workers.media.containers import HEAD, sniff

if TYPE_CHECKING:
    from workers.media.sample_stream import SampleStream

routes = web.RouteTableDef()

Encoding = Literal["pcm_s16le", "float32", "mulaw", "alaw"]  # as workers.media.sample_stream has them

_LARGEST = MIB  # bytes of a message: half a minute of 16-bit samples


class StreamParameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    encoding: Annotated[Encoding, Field(description="Of the binary frames.")] = "pcm_s16le"
    sample_rate: Annotated[int, Field(ge=8000, le=192_000, description="Hz.")] = 16_000
    channels: Annotated[int, Field(ge=1, le=8, description="Interleaved; they are mixed into one.")] = 1
    language: Annotated[Text, Field(description="As a code such as en. Default: detected.")] = None
    whisper_model: Annotated[Text, Field(description="Default: the configured one.")] = None
    prompt: Annotated[Long, Field(description="Text as if it came before.")] = None
    hotwords: Annotated[Long, Field(description="Words to expect.")] = None
    interim: Annotated[bool, Field(description="Whether interim results are sent.")] = True
    endpointing: Annotated[float, Field(ge=0.1, le=5, description="Seconds of silence that end an utterance.")] = 0.5
    num_speakers: Count = None
    min_speakers: Count = None
    max_speakers: Count = None
    keep: Annotated[bool, Field(description="Whether the transcript is a task that can be asked for later.")] = True

    def listening(self) -> LiveOptions:
        """Raises InvalidRequest."""
        ours = self.model_dump(exclude={"encoding", "sample_rate", "channels", "interim", "endpointing", "keep"})
        return LiveOptions(validate(Options, ours), self.interim, self.endpointing, self.keep)


class Ready(Struct, frozen=True, tag="ready"):
    task_id: str  # of the transcript, once the session has ended


class Problem(Struct, frozen=True, tag="error"):
    code: ErrorCode
    message: str
    param: str | None


class Native:
    ends_on_error = False
    last: tuple[type[Struct], ...] = (Ended,)

    def __init__(self, session: LiveSession, samples: SampleStream) -> None:
        self.session = session
        self._samples = samples
        self._head: bytes | None = b""  # the first bytes, until they are looked at
        self._finished = False

    def greet(self) -> Iterable[object]:
        return [Ready(self.session.task_id)]

    async def hear(self, message: str | bytes, send: conversation.Send) -> None:
        if isinstance(message, bytes):
            await self._hear_samples(message)
            return
        match conversation.decoded(message).get("type"):
            case "finalize":
                await self.session.finalize()
            case "finish":
                await self._finish()
            case "keepalive":
                await self.session.keep_alive()
            case _:
                raise InvalidRequest("type must be one of finalize, finish, keepalive.", param="type")

    async def begun(self) -> None:
        pass

    def tell(self, event: Event, following: Event | None) -> Iterable[object]:
        return [self.refuse(event.error) if isinstance(event, Broken) else event]

    def refuse(self, error: ServiceError) -> object:
        return Problem(error.code, error.message, error.param)

    async def _hear_samples(self, data: bytes) -> None:
        if self._finished:
            raise InvalidRequest("After finish there can be no more audio.")
        if self._head is not None:
            self._head += data[:HEAD]
            if len(self._head) >= 4:
                refuse_container(self._head)
                self._head = None
        await self.session.append(self._samples.feed(data))

    async def _finish(self) -> None:
        if not self._finished:
            self._finished = True
            await self.session.append(self._samples.flush())
            await self.session.finish()


_MAGIC = (b"RIFF", b"OggS", b"fLaC", b"ID3", b"\x1a\x45\xdf\xa3")


def refuse_container(head: bytes) -> None:
    """Raises UnsupportedMedia for the first bytes of a file: taken for samples, they would be heard as noise."""
    if head.startswith(_MAGIC) or sniff(head[:HEAD].ljust(HEAD, b"\0")) == "mov":
        raise UnsupportedMedia("Send samples without a file around them; recordings go to /api/v1/parallel/transcribe.")


@routes.get("/api/v1/parallel/stream")
@describe(
    "Live audio in, who says what out (WebSocket)",
    {
        101: Answer(
            "A WebSocket: binary frames of samples in, events as JSON out.",
            mentions=(Ready, SpeechStarted, Interim, Final, Correction, UtteranceEnd, Lag, Spoken, Ended, Problem),
        )
    },
    tag="live",
    errors=[400, 426, 429, 503],
    parameters=parameters_of(StreamParameters),
    needs="submit",
)
async def stream(request: web.Request) -> web.StreamResponse:
    from workers.media.sample_stream import SampleStream  # numpy, for who streams

    asked = parse(StreamParameters, {name: request.query.getall(name) for name in request.query})
    samples = SampleStream(asked.encoding, asked.sample_rate, asked.channels)
    session = conversation.open_session(request, asked.listening())
    return await conversation.converse(request, Native(session, samples), _LARGEST)
