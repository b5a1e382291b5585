"""One worker: start it, talk with it, see it end.

What a lane needs of a worker is here; where the worker is, is not: diarserve.pool.worker_process has one in a process,
worker_thread one in a thread. One on another machine would be a third.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from workers.messages import FromWorker, ToWorker, WorkerSpec
from workers.runtime import channel


class Worker(ABC):
    """One worker, from its start to its end; after that it is never used again. All methods are called on the event
    loop, and none blocks it.

    The first message that it sends is Ready, or BootFailed before it ends. After Ready it takes Submit and Cancel, and
    for every job that was submitted and not cancelled it sends any number of Progress and then one Done or Failed.
    Messages arrive in the order they were sent, whole, each once; there may be some of a job that was just cancelled.

        worker = await WorkerProcess.start(spec)
        try:
            ready = await worker.receive()
            worker.send(Submit("1", "task", request, virtual_deadline=0.0))
            while not isinstance(message := await worker.receive(), Done | Failed):
                ...
        finally:
            exit_code = await worker.close()
    """

    pid: int  # names it in the log and in /stats

    @abstractmethod
    def send(self, message: ToWorker) -> None:
        """Queue a message and return at once. To a worker that has died it is lost, without an error: `receive` tells.
        Raises TypeError for what cannot be sent."""

    @abstractmethod
    async def receive(self) -> FromWorker:
        """The worker's next message; one caller at a time. Raises EOFError once the worker has died and everything it
        sent is read, and ProtocolError (workers.runtime.channel) if it sends what is no message: kill it then."""

    @abstractmethod
    def kill(self) -> None:
        """Begin to end the worker, whatever it does. Its jobs are lost. May be called again, and after its end."""

    @abstractmethod
    async def close(self) -> int:
        """Kill it, wait for its end, and give back all that it used here. Its exit code, negative for a signal. May be
        called after its end."""


Start = Callable[[WorkerSpec], Awaitable[Worker]]
"""Starts a worker of a spec, and returns before it is Ready. If it cannot be started: raises OSError or another
exception, and leaves nothing behind. A lane then tries again later, and gives up only where the error will not pass."""


class StreamWorker(Worker):
    """A worker at the other end of a socket, that tells its exit code by `_exit`."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self._reader = reader
        self._writer = writer
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def send(self, message: ToWorker) -> None:
        if not self._writer.is_closing():
            self._writer.write(channel.pack(message))

    async def receive(self) -> FromWorker:
        return await channel.read(self._reader)

    async def wait(self) -> int:
        """Wait for its end. The exit code."""
        return await asyncio.shield(self._exit)

    async def _disconnect(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


def end_of(exit_code: int, *, started: bool, silent: bool) -> str:
    """How a worker ended, for the count of restarts: that it was killed, as it gave no sign of life, goes before the
    exit code."""
    if not started:
        return "not_started"
    return "hung" if silent else "killed" if exit_code < 0 else "exited"
