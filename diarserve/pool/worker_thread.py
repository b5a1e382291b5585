"""One worker in a thread of this process: for small machines and debuggers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading

from diarserve.pool.worker import StreamWorker
from workers.messages import WorkerSpec
from workers.runtime import thread

log = logging.getLogger(__name__)

_CLOSE_TIMEOUT = 30.0  # seconds for the step that runs when a worker is told to end


class WorkerThread(StreamWorker):
    """A thread cannot be killed: it drops its jobs at once and ends after its present step. One whose step hangs is
    left behind, and keeps its memory."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(os.getpid(), reader, writer)
        self._killed = False
        self._thread: threading.Thread

    @classmethod
    async def start(cls, spec: WorkerSpec) -> WorkerThread:
        ours, theirs = socket.socketpair()
        try:
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        worker = cls(reader, writer)
        arguments = (asyncio.get_running_loop(), theirs, spec)
        # A daemon: a program that forgets to clean up still ends.
        worker._thread = threading.Thread(target=worker._run, args=arguments, name=f"{spec.lane}-worker", daemon=True)
        worker._thread.start()
        return worker

    def _run(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, spec: WorkerSpec) -> None:
        code = thread.main(sock, spec)
        with contextlib.suppress(RuntimeError):  # left behind by a loop that is closed by now
            loop.call_soon_threadsafe(self._end, code)

    def _end(self, code: int) -> None:
        self._thread.join()  # to call this was the last that it did
        self._exit.set_result(-signal.SIGKILL if self._killed else code)

    def kill(self) -> None:
        if not self._exit.done():
            self._killed = True
            self._writer.transport.abort()

    async def close(self) -> int:
        self.kill()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                code = await self.wait()
        except TimeoutError:
            log.error("a worker's thread does not end: it is left behind")
            code = -signal.SIGKILL
        await self._disconnect()
        return code
