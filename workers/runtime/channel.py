"""Length-prefixed frames of MessagePack on a private socketpair, one per worker.

A shared multiprocessing.Queue does not survive the SIGKILL of a process that holds its lock, and a writer killed
mid-frame blocks a blocking reader for ever. Here a torn frame ends one worker's stream and nothing else. So does a
frame that holds no message: nothing that a worker writes can do more to the server than end that worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
import threading
from typing import Any

from msgspec import msgpack

from workers.messages import FromWorker, ToWorker

MAX_FRAME = 64 * 1024 * 1024  # bytes; the words of a day are 10 MB
_LENGTH = struct.Struct("!I")


class ProtocolError(Exception):
    """The other end sent what is no message, or one that has no place there."""


def _plain(value: Any) -> Any:
    """numpy's scalars, which models hand out, as Python's. numpy is not imported for it."""
    numpy = sys.modules.get("numpy")
    if numpy and isinstance(value, numpy.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be sent")


_encoder = msgpack.Encoder(enc_hook=_plain)
_to_worker = msgpack.Decoder[ToWorker](ToWorker)
_from_worker = msgpack.Decoder[FromWorker](FromWorker)


def pack(message: ToWorker | FromWorker) -> bytes:
    """A frame. Raises TypeError for what is no message, and ProtocolError for one that is too long."""
    return framed(_encoder.encode(message))


async def read(reader: asyncio.StreamReader) -> FromWorker:
    """The worker's next message. Raises EOFError when the worker is gone, between frames or inside one, and
    ProtocolError. 40,000 words are decoded in 5 ms: on the event loop, as a thread would hold the GIL all the time."""
    message: FromWorker = _decoded(_from_worker, await read_body(reader))
    return message


async def read_body(reader: asyncio.StreamReader) -> bytes:
    """A frame's message, not decoded yet. Raises as `read`."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        return await reader.readexactly(_checked(length))
    except (asyncio.IncompleteReadError, OSError) as error:  # a machine that is gone is a TimeoutError
        raise EOFError from error


def framed(body: bytes) -> bytes:
    return _LENGTH.pack(_checked(len(body))) + body


def unpack(body: bytes) -> ToWorker:
    """A message to a worker. Raises ProtocolError."""
    message: ToWorker = _decoded(_to_worker, body)
    return message


class Channel:
    """The worker's blocking end. Threads may send at the same time; one receives."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._socket = sock
        self._file = sock.makefile("rb")
        self._sending = threading.Lock()

    def send(self, message: FromWorker) -> None:
        """Raises BrokenPipeError when the server is gone."""
        frame = pack(message)
        with self._sending:
            self._socket.sendall(frame)

    def receive(self) -> ToWorker:
        """The next message. Raises EOFError when the server is gone, and ProtocolError."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        message: ToWorker = _decoded(_to_worker, self._exactly(_checked(length)))
        return message

    def fileno(self) -> int:
        return self._socket.fileno()

    def end(self) -> None:
        """Nothing more will be sent or received: `receive` raises EOFError, here and at the other end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except ConnectionError as error:
            raise EOFError from error
        if len(data) < size:
            raise EOFError
        return data


def _checked(length: int) -> int:
    if length > MAX_FRAME:
        raise ProtocolError(f"a frame of {length} bytes")
    return length


def _decoded(decoder: msgpack.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except Exception as error:  # DecodeError mostly; nesting and broken UTF-8 have types of their own
        raise ProtocolError(f"a frame of {len(body)} bytes that is no message: {error}") from error
