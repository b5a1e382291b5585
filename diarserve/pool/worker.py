"""One worker: start it, talk to it, see it end. Here as a process; diarserve.pool.worker_thread has it as a thread."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from workers.messages import FromWorker, ToWorker, WorkerSpec
from workers.runtime import channel


class Worker(ABC):
    """One incarnation of a worker, from start to end. Messages still in its channel outlive it."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self._reader = reader
        self._writer = writer
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def send(self, message: ToWorker) -> None:
        """Queue a message. To a worker that has died it is lost, as the death itself will tell."""
        if not self._writer.is_closing():
            self._writer.write(channel.pack(message))

    async def receive(self) -> FromWorker:
        """The worker's next message. Raises EOFError once it has died and everything it said is read."""
        return await channel.read(self._reader)

    async def wait(self) -> int:
        """The exit code, negative for a signal."""
        return await asyncio.shield(self._exit)

    @abstractmethod
    def kill(self) -> None: ...

    @abstractmethod
    async def close(self) -> int:
        """Kill, wait for the end, and give back every descriptor. The exit code."""

    async def _disconnect(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


Start = Callable[[WorkerSpec], Awaitable[Worker]]
