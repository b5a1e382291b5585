"""How a worker on another machine and the server come to trust each other: workers.messages.remote has the messages."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import socket
import ssl
import struct
from typing import TypeVar

from msgspec import msgpack

from workers.messages.remote import Call, Challenge, Greeting, Place, Proof, Purpose
from workers.messages.values import Message
from workers.runtime.channel import ProtocolError

NONCE = 32  # bytes
TIMEOUT = 10.0  # seconds for all of it
_LONGEST = 4096  # bytes of a message before the other side is known
_LENGTH = struct.Struct("!I")
# A connection on which nothing is heard of the other machine for this long is dead, also without traffic: probes after
# 5 s of silence, 3 of them, and data that is not acknowledged (tcp(7), RFC 5482).
_SILENCE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 11_000}

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
M = TypeVar("M", bound=Message)


class Distrust(Exception):
    """The other side does not know the token, or is not who it has to be."""


def proof(token: bytes, side: str, purpose: Purpose, worker_nonce: bytes, server_nonce: bytes) -> bytes:
    """That `side` knows the token. The side is part of it, so that nobody's proof can be sent back to him."""
    return hmac.digest(token, b"|".join((side.encode(), purpose.encode(), worker_nonce, server_nonce)), hashlib.sha256)


async def call(to: Call, purpose: Purpose, place: Place) -> Streams:
    """The worker's side: a connection on which both are known. Raises Distrust, OSError and TimeoutError."""
    async with asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_connection(to.host, to.port, ssl=_pinned() if to.certificate else None)
        try:
            _check_certificate(to, writer)
            tune(writer)
            nonce = os.urandom(NONCE)
            await send(writer, Greeting(to.worker, purpose, nonce))
            challenge = await receive(reader, Challenge)
            if len(challenge.nonce) != NONCE or not hmac.compare_digest(
                challenge.proof, proof(to.token, "server", purpose, nonce, challenge.nonce)
            ):
                raise Distrust("the server does not know this worker's token")
            await send(writer, Proof(proof(to.token, "worker", purpose, nonce, challenge.nonce), place))
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer


async def send(writer: asyncio.StreamWriter, message: Message) -> None:
    body = msgpack.encode(message)
    writer.write(_LENGTH.pack(len(body)) + body)
    await writer.drain()


async def receive(reader: asyncio.StreamReader, kind: type[M]) -> M:
    """A message of somebody who may be anybody. Raises ProtocolError and EOFError."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > _LONGEST:
            raise ProtocolError(f"a message of {length} bytes from a stranger")
        return msgpack.decode(await reader.readexactly(length), type=kind)
    except (asyncio.IncompleteReadError, OSError) as error:
        raise EOFError from error
    except ProtocolError:
        raise
    except Exception as error:  # DecodeError mostly
        raise ProtocolError(f"what is no {kind.__name__}: {error}") from error


def tune(writer: asyncio.StreamWriter) -> None:
    """See a machine that is gone within about 11 s."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _SILENCE.items():
        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _pinned() -> ssl.SSLContext:
    """Whom it is encrypted for is checked by `_check_certificate`: one certificate alone is right."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _check_certificate(to: Call, writer: asyncio.StreamWriter) -> None:
    if to.certificate:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if shown is None or not hmac.compare_digest(shown, to.certificate):
            raise Distrust("the server shows another certificate than its own")
