"""Length-prefixed frames on a private socketpair, one per worker.

A shared multiprocessing.Queue does not survive the SIGKILL of a process that holds its lock, and a writer
killed mid-frame blocks a blocking reader for ever. Here a torn frame ends one worker's stream and nothing else.
Frames are pickles: both ends are our own processes and the socket has no name.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
import struct
import threading
from typing import Any

_LENGTH = struct.Struct("!I")
_LARGE = 64 * 1024  # bytes above which a message is unpacked off the event loop: hours of words take 0.2 s


def pack(message: object) -> bytes:
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


async def read(reader: asyncio.StreamReader) -> Any:
    """The next message. Raises EOFError when the other end is gone, between frames or inside one."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        body = await reader.readexactly(length)
        return pickle.loads(body) if length < _LARGE else await asyncio.to_thread(pickle.loads, body)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise EOFError from error


class Channel:
    """The worker's blocking end."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._socket = sock
        self._file = sock.makefile("rb")
        self._sending = threading.Lock()

    def send(self, message: object) -> None:
        with self._sending:
            self._socket.sendall(pack(message))

    def receive(self) -> Any:
        """The next message. Raises EOFError when the server is gone."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        return pickle.loads(self._exactly(length))

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
