"""What runs beside a worker on another machine: it calls the server, starts the worker's process, hands frames to and
fro, and fetches the audio of jobs. When the server is gone so is the worker, and the other way round.

The worker has a process of its own, so that it is the same as on the server's machine: its environment from birth
(malloc and OpenMP read theirs then), its limits, its signals. Ray runs `Supervisor.run` as an actor; the
kernel kills the worker with it (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

from msgspec import MsgspecError, Struct, msgpack
from msgspec.structs import replace

from workers.messages import Cancel, Failed, Submit, WorkerSpec
from workers.messages.remote import Call, Fetch, Place, audio_of, content_of, with_audio
from workers.remote import handshake
from workers.remote.audio_cache import AudioCache, WrongContent
from workers.remote.handshake import Streams
from workers.runtime import channel
from workers.runtime.channel import ProtocolError
from workers.runtime.environment import environment_of

log = logging.getLogger(__name__)


_BLOCK = 1 << 18  # bytes


class _Head(Struct):
    """Of any message from a worker. The rest is the server's to read."""

    type: str
    job: str = ""


_head = msgpack.Decoder(_Head)
_FETCH_FAILED = "The recording could not be brought to the worker's machine."


class Supervisor:
    """Made into an actor by diarserve.pool.ray_cluster."""

    def run(self, call: bytes) -> int:
        """Until the worker or the server is gone. The worker's exit code, negative for a signal.

        call: a workers.messages.remote.Call, as MessagePack. Raises Distrust and OSError where the server cannot be
        reached or is another."""
        return asyncio.run(_supervise(msgpack.decode(call, type=Call)))


async def _supervise(call: Call) -> int:
    place = Place(socket.gethostname(), os.getpid(), _shares_files(call))
    server = await handshake.call(call, "channel", place)
    spec = channel.unpack(await channel.read_body(server[0]))
    assert isinstance(spec, WorkerSpec)
    folder = call.cache_dir or os.path.join(tempfile.gettempdir(), f"diarserve-{os.getuid()}")
    cache = AudioCache(Path(folder), call.cache_bytes)
    try:
        return await _Relay(call, place, server, cache).run(spec)
    finally:
        cache.close()
        server[1].transport.abort()


def _shares_files(call: Call) -> bool:
    """Whether the server's data directory is here under the same path: then its files are read where they are."""
    if not (call.share_files and call.data_dir):
        return False
    with contextlib.suppress(OSError):
        found = os.stat(call.data_dir)
        return (found.st_dev, found.st_ino) == call.data_id
    return False


class _Relay:
    def __init__(self, call: Call, place: Place, server: Streams, cache: AudioCache) -> None:
        self._call, self._place, self._cache = call, place, cache
        self._reader, self._writer = server
        self._worker: asyncio.StreamWriter
        self._fetching: dict[str, asyncio.Task[None]] = {}  # by job

    async def run(self, spec: WorkerSpec) -> int:
        ours, theirs = socket.socketpair()
        files, their_files = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # no files come this way
        with theirs, their_files, files:
            inherited = (theirs.fileno(), their_files.fileno(), 2)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "workers.runtime.process", *map(str, inherited)),
                stdin=asyncio.subprocess.DEVNULL,
                env=environment_of(spec.environment),
                pass_fds=inherited[:2],
                start_new_session=True,
            )
            theirs.close()
            reader, self._worker = await asyncio.open_connection(sock=ours)
            self._worker.write(channel.pack(spec))
            ways = [asyncio.create_task(way) for way in (self._down(), self._up(reader))]
            ended = asyncio.create_task(process.wait())
            try:
                await asyncio.wait((*ways, ended), return_when=asyncio.FIRST_COMPLETED)
                if ended.done():  # what it said last is on its way
                    await asyncio.wait((ways[1],), timeout=1.0)
                for way in ways:
                    if way.done() and (error := way.exception()):
                        log.error("the worker is given up: %r", error)
            finally:
                for task in (*ways, *self._fetching.values()):
                    task.cancel()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                self._worker.transport.abort()
            return await ended

    async def _up(self, reader: asyncio.StreamReader) -> None:
        """From the worker to the server."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                body = await channel.read_body(reader)
                self._release(body)  # before the server hears of it, which may give out the job's name again
                self._writer.write(channel.framed(body))
                await self._writer.drain()

    async def _down(self) -> None:
        """From the server to the worker."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                body = await channel.read_body(self._reader)
                message = channel.unpack(body)
                if isinstance(message, Submit) and self._is_elsewhere(message):
                    self._fetching[message.job] = asyncio.create_task(self._submit(message))
                    continue
                if isinstance(message, Cancel):
                    self._cancel(message.job)
                self._worker.write(channel.framed(body))
                await self._worker.drain()

    @staticmethod
    def _is_elsewhere(submit: Submit) -> bool:
        audio = audio_of(submit.request)
        return audio is not None and content_of(audio.path) is not None

    async def _submit(self, submit: Submit) -> None:
        """Fetch the job's audio, then give it to the worker."""
        audio = audio_of(submit.request)
        assert audio is not None
        content = content_of(audio.path)
        assert content is not None
        try:
            path = await self._cache.link(*content, submit.job, self._fetch)
        except (OSError, EOFError, TimeoutError, WrongContent, handshake.Distrust, ProtocolError) as error:
            log.error("the audio of a job could not be fetched: %r", error)
            failed = Failed(submit.job, "internal", _FETCH_FAILED, retry=True, trace=f"{type(error).__name__}: {error}")
            self._writer.write(channel.pack(failed))
        else:
            self._worker.write(channel.pack(replace(submit, request=with_audio(submit.request, str(path), audio.pcm))))
        finally:
            self._fetching.pop(submit.job, None)

    async def _fetch(self, sha256: str) -> AsyncGenerator[bytes, None]:
        reader, writer = await handshake.call(self._call, "audio", self._place)
        try:
            await handshake.send(writer, Fetch(sha256))
            while block := await reader.read(_BLOCK):
                yield block
        finally:
            writer.transport.abort()

    def _cancel(self, job: str) -> None:
        if fetching := self._fetching.pop(job, None):
            fetching.cancel()
        self._cache.release(job)

    def _release(self, body: bytes) -> None:
        """If a job is done, its audio may go."""
        with contextlib.suppress(MsgspecError, UnicodeDecodeError):  # what is no message the server judges
            head = _head.decode(body)
            if head.type in ("Done", "Failed"):
                self._cache.release(head.job)
