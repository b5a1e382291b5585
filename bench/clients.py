"""A client that costs little beside the server that it measures: requests made beforehand, on open connections."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from workers.messages import SAMPLE_RATE

TRANSCRIBE = "/api/v1/parallel/transcribe"
_BOUNDARY = "-" * 24 + "diarserve"


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a closed loop."""

    seconds: list[float]  # of each request
    wall: float
    client_cpu: float  # seconds of this process

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.wall


def wav(pcm: bytes) -> bytes:
    """A WAV file of 16-bit mono 16 kHz samples."""
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", len(pcm) + 36, b"WAVE", b"fmt ", 16, 1, 1, SAMPLE_RATE,
                       2 * SAMPLE_RATE, 2, 16, b"data", len(pcm))  # fmt: skip
    return head + pcm


def silence(seconds: int) -> bytes:
    return wav(bytes(2 * SAMPLE_RATE * seconds))


def form(*recordings: bytes, field: str = "file", **fields: str) -> tuple[str, bytes]:
    """A form with the files: its content type, and the body."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="'
    body = [f'{head}{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    for number, recording in enumerate(recordings):
        part = f'{head}{field}"; filename="{number}.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        body += [part.encode(), recording, b"\r\n"]
    return f"multipart/form-data; boundary={_BOUNDARY}", b"".join([*body, f"--{_BOUNDARY}--\r\n".encode()])


def upload(recording: bytes, path: str = TRANSCRIBE) -> bytes:
    """The whole request."""
    kind, body = form(recording)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**20))

    async def ask(self, request: bytes) -> float:
        """Seconds from the request's first byte to the answer's last. Raises RuntimeError for any status but 200."""
        began = time.monotonic()
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(body.decode())
        return time.monotonic() - began

    def close(self) -> None:
        self._writer.close()


async def in_turn(ports: Sequence[int], request: bytes, count: int) -> list[list[float]]:
    """Seconds of `count` requests to each server, from one client: a few to each in turn, so that whatever else the
    machine does falls on all of them."""
    connections = [await Connection.open(port) for port in ports]
    seconds: list[list[float]] = [[] for _ in ports]
    block = 10
    while len(seconds[-1]) < count:
        for connection, times in zip(connections, seconds, strict=True):
            times += [await connection.ask(request) for _ in range(min(block, count - len(times)))]
    for connection in connections:
        connection.close()
    return seconds


async def closed_loop(port: int, request: bytes, clients: int, seconds: float) -> Load:
    """Every client asks again as soon as it has its answer."""
    connections = [await Connection.open(port) for _ in range(clients)]
    times: list[float] = []
    began, cpu = time.monotonic(), time.process_time()

    async def client(connection: Connection) -> None:
        while time.monotonic() - began < seconds:
            times.append(await connection.ask(request))

    await asyncio.gather(*map(client, connections))
    load = Load(times, time.monotonic() - began, time.process_time() - cpu)
    for connection in connections:
        connection.close()
    return load
