"""GET /v1/realtime: OpenAI's Realtime, of transcription sessions, and vLLM's dialect of it."""

from __future__ import annotations

from aiohttp import web

from diarserve.core.errors import InvalidRequest
from diarserve.core.settings import MIB
from diarserve.http.context import SERVICE
from diarserve.http.live import conversation
from diarserve.http.live.realtime import Realtime
from diarserve.http.live.realtime_options import TranscriptionSession
from diarserve.http.live.vllm import VLLM
from diarserve.http.openai.errors import OpenAIErrorAnswer
from diarserve.http.openapi.describe import Answer, Parameter, describe
from diarserve.live.options import LiveOptions
from diarserve.live.session import LiveSession

routes = web.RouteTableDef()

_LARGEST = 21 * MIB  # bytes of a message: 15 MiB in base64, and a little


@routes.get("/v1/realtime")
@describe(
    "Live audio, asked as OpenAI's Realtime is (WebSocket)",
    {101: Answer("A WebSocket: OpenAI's events of a transcription session.")},
    tag="OpenAI",
    errors=[400, 426, 429, 503],
    error=OpenAIErrorAnswer,
    parameters=[
        Parameter("intent", text="`transcription`. Without it and `model`, vLLM's dialect is spoken."),
        Parameter("model", text="Is not looked at."),
    ],
    needs="submit",
)
async def realtime(request: web.Request) -> web.StreamResponse:
    theirs = not {"intent", "model"} & request.query.keys()
    if not theirs and request.query.get("intent") != "transcription":
        raise InvalidRequest("Only transcription is done here: connect with ?intent=transcription.", param="intent")
    accepted = tuple(request.app[SERVICE].lanes.whisper.info.get("accepts", ()))

    def opened(options: LiveOptions) -> LiveSession:
        return conversation.open_session(request, options)

    old = "realtime=v1" in request.headers.get("OpenAI-Beta", "")
    session = opened(TranscriptionSession().listening(accepted))
    kind = VLLM if theirs else Realtime
    return await conversation.converse(request, kind(session, opened, accepted, old=old), _LARGEST)
