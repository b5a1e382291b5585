"""The handshake of a WebSocket, as far as requests are refused by it."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import hdrs, web

from diarserve.core.errors import InvalidRequest, UpgradeRequired
from diarserve.http.guard import offered_protocols

# Of OpenAI's and Deepgram's clients in browsers, which send their key beside them (diarserve.http.guard).
_SPOKEN = ("realtime", "token", "bearer")


def require_upgrade(request: web.Request) -> None:
    """Raises UpgradeRequired and InvalidRequest."""
    tokens = {token.strip().lower() for token in request.headers.get(hdrs.CONNECTION, "").split(",")}
    if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket" or "upgrade" not in tokens:
        raise UpgradeRequired("This is a WebSocket: connect with ws:// or wss://.")
    if offered_protocols(request) and not subprotocols(request):
        raise InvalidRequest(
            f"Of subprotocols, {', '.join(_SPOKEN)} are spoken; leave Sec-WebSocket-Protocol out.",
            param="Sec-WebSocket-Protocol",
        )
    if request.headers.get(hdrs.SEC_WEBSOCKET_VERSION) != "13" or hdrs.SEC_WEBSOCKET_KEY not in request.headers:
        raise InvalidRequest("This handshake is no WebSocket's of version 13.")


def subprotocols(request: web.Request) -> Sequence[str]:
    """Those of the client's that are spoken; never its key, which stands among them."""
    return [name for name in offered_protocols(request) if name.lower() in _SPOKEN]
