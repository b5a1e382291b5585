"""One worker as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

from diarserve.pool.worker import Worker
from workers.messages import WorkerSpec
from workers.runtime.process import main

# Spawn, always: fork breaks CUDA and threads, and forked children outlive the server.
_spawn = multiprocessing.get_context("spawn")


class WorkerProcess(Worker):
    def __init__(self, process: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(process.pid, reader, writer)
        self._process = process
        # A pidfd becomes readable at the process's own death. Its sentinel and its end of the channel wait
        # for grandchildren that inherited them.
        self._pidfd = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    @classmethod
    async def start(cls, spec: WorkerSpec) -> WorkerProcess:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                reader, writer = await asyncio.open_connection(sock=ours)
            except BaseException:
                ours.close()
                raise
            try:
                process = _spawn.Process(target=main, args=(theirs, spec), name=spec.lane)
                with _main_module_hidden(), _environment(spec.environment):
                    process.start()
            except BaseException:
                writer.transport.abort()
                raise
            return cls(process, reader, writer)

    def kill(self) -> None:
        if not self._exit.done():
            os.kill(self.pid, signal.SIGKILL)

    async def close(self) -> int:
        self.kill()
        code = await self.wait()
        await self._disconnect()
        return code

    def _reap(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # before join: the zombie keeps the number ours
        self._process.join()
        self._exit.set_result(self._process.exitcode)
        self._process.close()
        # What the worker wrote is in the socket already and end of file follows it, unless a child of its own
        # still held the other end.
        loop.call_later(0.1, self._writer.transport.abort)


@contextlib.contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Spawn re-imports the parent's main module in the child. Whatever that is here (a console script, pytest,
    a user's unguarded script), workers have no use for it and should not pay for or be broken by it."""
    real = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = real


@contextlib.contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Some of it counts only if it is there when a process begins: LD_PRELOAD, GLIBC_TUNABLES."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
