"""The server's own live protocol: binary frames of samples or of a recording in, events as JSON out.

The events of diarserve.live.events as they are, each with its `type`, and before them `ready`; the last is `done` or
`error`. Text frames of the client: {"type": "finalize"}, {"type": "finish"}, {"type": "keepalive"}.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from aiohttp import web
from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from diarserve.core.errors import ErrorCode, InvalidRequest, ServiceError
from diarserve.core.options import Count, Long, Options, Text, parse, validate
from diarserve.core.settings import MIB
from diarserve.http.live import conversation
from diarserve.http.live.intake import Either, Encoding, Intake, Recording, Samples
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

routes = web.RouteTableDef()

_LARGEST = MIB  # bytes of a message: half a minute of 16-bit samples


class StreamParameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    encoding: Annotated[
        Encoding | Literal["container"] | None,
        Field(
            description="Of the binary frames. `container`: together they are a recording, such as WebM, Ogg, MP3 or "
            "WAV. Default: a recording if it begins like one (not MP3 without a tag), else `pcm_s16le`."
        ),
    ] = None
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

    def intake(self, session: LiveSession) -> Intake:
        if self.encoding == "container":
            return Recording(session)
        from workers.media.sample_stream import SampleStream  # numpy, for who streams samples

        stream = SampleStream(self.encoding or "pcm_s16le", self.sample_rate, self.channels)
        return Samples(session, stream) if self.encoding else Either(session, stream)


class Ready(Struct, frozen=True, tag="ready"):
    task_id: str  # of the transcript, once the session has ended


class Problem(Struct, frozen=True, tag="error"):
    code: ErrorCode
    message: str
    param: str | None


class Native:
    ends_on_error = False
    last: tuple[type[Struct], ...] = (Ended,)

    def __init__(self, session: LiveSession, intake: Intake) -> None:
        self.session = session
        self._intake = intake
        self._finished = False

    def greet(self) -> Iterable[object]:
        return [Ready(self.session.task_id)]

    async def hear(self, message: str | bytes, send: conversation.Send) -> None:
        if isinstance(message, bytes):
            if self._finished:
                raise InvalidRequest("After finish there can be no more audio.")
            await self._intake.take(message)
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

    async def _finish(self) -> None:
        if not self._finished:
            self._finished = True
            await self._intake.finish()


@routes.get("/api/v1/parallel/stream")
@describe(
    "Live audio in, who says what out (WebSocket)",
    {
        101: Answer(
            "A WebSocket: binary frames of samples or of a recording in, events as JSON out.",
            mentions=(Ready, SpeechStarted, Interim, Final, Correction, UtteranceEnd, Lag, Spoken, Ended, Problem),
        )
    },
    tag="live",
    errors=[400, 426, 429, 503],
    parameters=parameters_of(StreamParameters),
    needs="submit",
)
async def stream(request: web.Request) -> web.StreamResponse:
    asked = parse(StreamParameters, {name: request.query.getall(name) for name in request.query})
    session = conversation.open_session(request, asked.listening())
    return await conversation.converse(request, Native(session, asked.intake(session)), _LARGEST)
