"""One worker on another machine: diarserve.pool.gateway is where it calls, a launcher puts it there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec.structs import replace

from diarserve.pool.gateway import Expected, Gateway
from diarserve.pool.worker import Worker
from workers.messages import Cancel, Failed, FromWorker, Ready, Report, Submit, ToWorker, WorkerSpec
from workers.messages.remote import Call, Place, audio_of, content_path, with_audio
from workers.runtime import channel
from workers.runtime.channel import ProtocolError

log = logging.getLogger(__name__)

_END_TIMEOUT = 3.0  # seconds for a killed worker's end to be known


class Launched(Protocol):
    """A worker that was put somewhere."""

    ended: asyncio.Future[int]  # its exit code, or an exception, once it is known to be gone

    def kill(self) -> None: ...


Launch = Callable[[Call], Awaitable[Launched]]


class RemoteWorker(Worker):
    """It is dead when its launcher says so, or when its connection ends, whichever is first. It calls once: what one
    that was cut off still does is heard by nobody, and its jobs are others' by then."""

    def __init__(self, gateway: Gateway, expected: Expected, launched: Launched, spec: WorkerSpec) -> None:
        self.pid = 0  # until it has called
        self._gateway = gateway
        self._expected = expected
        self._launched = launched
        self._place: Place | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._inbox: asyncio.Queue[FromWorker | EOFError | ProtocolError] = asyncio.Queue()
        self._preparing: dict[str, asyncio.Task[None]] = {}  # by job
        self._talking = asyncio.create_task(self._talk(spec))

    @classmethod
    async def start(cls, gateway: Gateway, launch: Launch, spec: WorkerSpec) -> RemoteWorker:
        """Returns before the worker has a place: its lane's `boot_timeout` counts from now."""
        expected = gateway.expect()
        try:
            launched = await launch(expected.call)
        except BaseException:
            gateway.forget(expected)
            raise
        return cls(gateway, expected, launched, spec)

    def send(self, message: ToWorker) -> None:
        if isinstance(message, Submit) and not (self._place and self._place.shares_files):
            task = self._preparing[message.job] = asyncio.create_task(self._submit(message))
            task.add_done_callback(lambda task: self._preparing.pop(message.job, None))
            return
        if isinstance(message, Cancel) and (preparing := self._preparing.get(message.job)):
            preparing.cancel()
        self._write(message)

    async def receive(self) -> FromWorker:
        message = await self._inbox.get()
        if isinstance(message, Exception):
            self._inbox.put_nowait(message)
            raise message
        return message

    def kill(self) -> None:
        self._launched.kill()
        self._hang_up()

    def _hang_up(self) -> None:
        if self._writer:
            self._writer.transport.abort()

    async def close(self) -> int:
        self.kill()
        self._gateway.forget(self._expected)
        self._talking.cancel()
        for task in self._preparing.values():
            task.cancel()
        await asyncio.wait((self._launched.ended,), timeout=_END_TIMEOUT)
        with contextlib.suppress(BaseException):
            return self._launched.ended.result() if self._launched.ended.done() else -signal.SIGKILL
        return -signal.SIGKILL

    async def _talk(self, spec: WorkerSpec) -> None:
        try:
            reader = await self._called(spec)
            while True:
                self._inbox.put_nowait(self._local(await channel.read(reader)))
        except (EOFError, ProtocolError) as error:
            self._inbox.put_nowait(error)

    async def _called(self, spec: WorkerSpec) -> asyncio.StreamReader:
        """Wait for its call. Raises EOFError where it has ended instead."""
        came, ended = self._expected.came, self._launched.ended
        await asyncio.wait((came, ended), return_when=asyncio.FIRST_COMPLETED)
        if not came.done():
            why = None if ended.cancelled() else ended.exception()
            log.error("the %s worker ended before it called: %s", spec.lane, why or ended)
            raise EOFError
        self._place, (reader, self._writer) = came.result()
        self.pid = self._place.pid
        log.info("the %s worker %d is on %s", spec.lane, self.pid, self._place.node)
        ended.add_done_callback(lambda _: self._hang_up())
        self._write(spec)
        return reader

    def _local(self, message: FromWorker) -> FromWorker:
        """Live audio grows in a file of this machine: elsewhere there is none."""
        if isinstance(message, Ready | Report) and self._place:
            live = self._place.shares_files and message.model.get("live", False)
            return replace(message, model={**message.model, "live": live, "node": self._place.node})
        return message

    async def _submit(self, submit: Submit) -> None:
        """Have the job's audio ready to be fetched, then send the job."""
        audio = audio_of(submit.request)
        try:
            if audio is None:
                raise OSError(f"{type(submit.request).__name__} is not done on other machines")
            parcel = await self._gateway.parcels.make(audio)
            path = content_path(parcel.sha256, parcel.size)
            self._write(replace(submit, request=with_audio(submit.request, path, 0)))
        except Exception as error:
            trace = f"{type(error).__name__}: {error}"
            failed = Failed(submit.job, "internal", "The recording could not be sent to a worker.", True, trace)
            self._inbox.put_nowait(failed)

    def _write(self, message: ToWorker) -> None:
        if self._writer and not self._writer.is_closing():
            self._writer.write(channel.pack(message))
