"""Deepgram's live protocol. https://developers.deepgram.com/reference/speech-to-text/listen-streaming"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from aiohttp import web
from msgspec import UNSET, Struct, UnsetType
from pydantic import BeforeValidator, Field

from diarserve.core.errors import InvalidRequest, ServiceError
from diarserve.core.options import Options, validate
from diarserve.core.settings import MIB
from diarserve.http.context import SERVICE
from diarserve.http.deepgram import shapes
from diarserve.http.deepgram.errors import PATH, DeepgramErrorAnswer
from diarserve.http.deepgram.options import CommonParameters, Flag, read
from diarserve.http.live import conversation
from diarserve.http.live.intake import Encoding, Intake, Recording, Samples
from diarserve.http.openapi.describe import Answer, describe, parameters_of
from diarserve.http.request_id import request_id
from diarserve.live.events import Broken, Event, Final, Interim, SpeechStarted, Spoken, UtteranceEnd
from diarserve.live.options import LiveOptions
from diarserve.live.session import LiveSession
from diarserve.transcript.document import UNKNOWN, Word

routes = web.RouteTableDef()

_LARGEST = MIB  # bytes of a message
_SAMPLES: Mapping[str, Encoding] = {"linear16": "pcm_s16le", "mulaw": "mulaw", "alaw": "alaw"}


def _milliseconds(value: Any) -> Any:
    return None if str(value).lower() in ("false", "") else value


class LiveParameters(CommonParameters):
    encoding: Annotated[
        Literal["linear16", "mulaw", "alaw"] | None,
        Field(description="Of the binary frames. Without it they are a recording, such as WebM, Ogg, MP3 or WAV."),
    ] = None
    sample_rate: Annotated[int, Field(ge=8000, le=192_000, description="Hz.")] = 16_000
    channels: Annotated[int, Field(ge=1, le=8, description="Interleaved; they are mixed into one.")] = 1
    interim_results: Flag = False
    endpointing: Annotated[
        Annotated[int, Field(ge=0, le=60_000)] | None,
        BeforeValidator(_milliseconds),
        Field(description="Milliseconds of silence that end an utterance: 100 to 5000 are honoured. Default: 500."),
    ] = None
    utterance_end_ms: Annotated[
        Annotated[int, Field(ge=0, le=60_000)] | None,
        BeforeValidator(_milliseconds),
        Field(description="Milliseconds without words after which UtteranceEnd is sent. Default: it is not."),
    ] = None
    vad_events: Annotated[Flag, Field(description="Whether SpeechStarted is sent.")] = False

    def listening(self, accepted: Sequence[str] = ()) -> LiveOptions:
        """accepted: the model names that the server takes. Raises InvalidRequest."""
        ours = {
            "language": self.our_language,
            "whisper_model": self.our_model(accepted),
            "hotwords": self.expected,
        }
        endpointing = min(max((self.endpointing or 500) / 1000, 0.1), 5.0)
        return LiveOptions(validate(Options, ours), self.interim_results, endpointing, keep=False)

    def intake(self, session: LiveSession) -> Intake:
        if self.encoding is None:
            return Recording(session)
        from workers.media.sample_stream import SampleStream  # numpy, for who streams samples

        return Samples(session, SampleStream(_SAMPLES[self.encoding], self.sample_rate, self.channels))


class LiveMetadata(Struct):
    request_id: str
    model_info: shapes.ModelInfo
    model_uuid: str


class LiveChannel(Struct):
    alternatives: list[shapes.Alternative]


class LiveResults(Struct, kw_only=True, tag="Results"):
    channel_index: tuple[int, int] = (0, 1)
    duration: float
    start: float
    is_final: bool
    speech_final: bool
    from_finalize: bool
    channel: LiveChannel
    metadata: LiveMetadata


class LiveSpeechStarted(Struct, tag="SpeechStarted"):
    channel: tuple[int, int]
    timestamp: float


class LiveUtteranceEnd(Struct, tag="UtteranceEnd"):
    channel: tuple[int, int]
    last_word_end: float


class LiveSummary(Struct, kw_only=True, tag="Metadata"):
    transaction_key: str = "deprecated"
    request_id: str
    sha256: str
    created: str
    duration: float
    channels: int
    models: list[str]
    model_info: dict[str, shapes.ModelInfo]


class LiveError(Struct, kw_only=True, tag="Error"):
    variant: str
    description: str
    message: str | UnsetType = UNSET


class Deepgram:
    ends_on_error = True
    last: tuple[type[Struct], ...] = (Spoken,)

    def __init__(
        self, session: LiveSession, asked: LiveParameters, intake: Intake, request_id: str, model: str
    ) -> None:
        """model: the name of the one that listens."""
        self.session = session
        self._asked, self._intake, self._request_id, self._model = asked, intake, request_id, model
        self._started = shapes.now()
        self._sum = hashlib.sha256()
        self._finished = False
        self._numbers: dict[str, int] = {}
        self._final_until = 0.0  # seconds: where the last final word ends
        self._said_end = False  # with the last final words: speech_final
        self._silent_after: float | None = None  # of which UtteranceEnd is still to be told

    def greet(self) -> Iterable[object]:
        return ()

    async def hear(self, message: str | bytes, send: conversation.Send) -> None:
        if isinstance(message, bytes):
            await self._hear_audio(message)
            for told in self._silence():
                await send(told)
            return
        match conversation.decoded(message).get("type"):
            case "KeepAlive":
                await self.session.keep_alive()
            case "Finalize":
                await self.session.finalize()
            case "CloseStream":
                await self._finish()
            case _:
                raise InvalidRequest("type must be one of KeepAlive, Finalize, CloseStream.", param="type")

    async def begun(self) -> None:
        pass

    def tell(self, event: Event, following: Event | None) -> Iterable[object]:
        match event:
            case SpeechStarted() if self._asked.vad_events:
                yield LiveSpeechStarted((0, 1), event.time)
            case Interim(words) if words:
                self._silent_after = None
                if self._asked.interim_results:
                    yield self._results(words)
            case Final(words=words):
                self._silent_after = None
                ends = following if isinstance(following, UtteranceEnd) else None
                self._said_end = ends is not None
                yield self._results(words, final=True, ends=ends)
                self._final_until = words[-1].end
            case UtteranceEnd():
                if not self._said_end:
                    yield self._results((), final=True, ends=event)
                self._said_end = False
                self._silent_after = event.time
            case Spoken():
                yield from self._utterance_end()
                yield self._summary()
            case Broken(error):
                yield self.refuse(error)

    def refuse(self, error: ServiceError) -> object:
        variant = "SchemaError" if error.status < 500 else "ServerError"
        return LiveError(variant=variant, description=error.message, message=error.code)

    async def _hear_audio(self, data: bytes) -> None:
        if not data:  # older clients end the stream so
            await self._finish()
        elif not self._finished:
            self._sum.update(data)
            await self._intake.take(data)

    def _silence(self) -> Iterable[object]:
        """What is told once no words have come for long enough."""
        silent = self.session.seconds - self._silent_after if self._silent_after is not None else 0.0
        return self._utterance_end() if 1000 * silent >= (self._asked.utterance_end_ms or 0) else ()

    async def _finish(self) -> None:
        if not self._finished:
            self._finished = True
            await self._intake.finish()

    def _utterance_end(self) -> Iterable[object]:
        if self._silent_after is None or self._asked.utterance_end_ms is None:
            return ()
        time, self._silent_after = self._silent_after, None
        return [LiveUtteranceEnd((0, 1), time)]

    def _results(self, words: Sequence[Word], *, final: bool = False, ends: UtteranceEnd | None = None) -> LiveResults:
        for word in words if final else ():  # an interim speaker may go again
            if word.speaker != UNKNOWN:
                self._numbers.setdefault(word.speaker, len(self._numbers))
        numbers = self._numbers if self._asked.says_speakers else {}
        said = [shapes.listen_word(word, numbers, punctuated=self._asked.punctuated, confident=False) for word in words]
        start = self._final_until
        past = words[-1].end if words else max(start, ends.time if ends else start)
        best = shapes.Alternative(transcript=shapes.transcript(said), confidence=shapes.confidence(said), words=said)
        return LiveResults(
            duration=round(past - start, 3),
            start=start,
            is_final=final,
            speech_final=ends is not None,
            from_finalize=ends is not None and ends.finalized,
            channel=LiveChannel([best]),
            metadata=LiveMetadata(self._request_id, shapes.model_info(self._model), shapes.model_id(self._model)),
        )

    def _summary(self) -> LiveSummary:
        model = shapes.model_id(self._model)
        return LiveSummary(
            request_id=self._request_id,
            sha256=self._sum.hexdigest(),
            created=self._started,
            duration=round(self.session.seconds, 3),
            channels=1,
            models=[model],
            model_info={model: shapes.model_info(self._model)},
        )


@routes.get(PATH)
@describe(
    "Live audio, asked as Deepgram is (WebSocket)",
    {
        101: Answer(
            "A WebSocket: Deepgram's messages.",
            mentions=(LiveResults, LiveSpeechStarted, LiveUtteranceEnd, LiveSummary, LiveError),
        )
    },
    tag="Deepgram",
    errors=[400, 426, 429, 503],
    error=DeepgramErrorAnswer,
    parameters=parameters_of(LiveParameters),
    needs="submit",
)
async def listen(request: web.Request) -> web.StreamResponse:
    asked, _ = read(LiveParameters, request.query)
    whisper = request.app[SERVICE].lanes.whisper.info
    accepted = whisper.get("accepts", ())
    session = conversation.open_session(request, asked.listening(accepted))
    model = asked.our_model(accepted) or str(whisper.get("model", ""))
    return await conversation.converse(
        request, Deepgram(session, asked, asked.intake(session), request_id(request), model), _LARGEST
    )
