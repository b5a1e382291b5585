"""One worker as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from asyncio import subprocess
from os import pidfd_open

from msgspec.structs import replace

from diarserve.pool import job_files
from diarserve.pool.worker import StreamWorker
from diarserve.pool.worker_output import WorkerOutput
from workers.messages import Submit, ToWorker, WorkerSpec
from workers.runtime.environment import environment_of

log = logging.getLogger(__name__)

# Seconds for a killed process to be gone. A driver or a network disk may hold it for longer: then the next worker is
# started beside it, and a server that stops has time left to close its store (diarserve.cli.watchdog).
_REAP_TIMEOUT = 1.5
_PROCESS_GROUP = 4  # PIDFD_SIGNAL_PROCESS_GROUP, from Linux 6.9 on


_running: set[WorkerProcess] = set()


def kill_all() -> None:
    """Kill every worker of this process, stopped ones too. May be called in any thread, also where the loop hangs."""
    for worker in tuple(_running):
        with contextlib.suppress(OSError):  # its pidfd was closed meanwhile
            worker._kill_group()


class WorkerProcess(StreamWorker):
    """Runs workers.runtime.process, which gets its ends of the channel and of the socket for jobs' files, and the
    server's standard error, for its log, as open descriptors, and its spec as the first message. It leads a session,
    and so a process group, of its own: what the engine starts is killed along with it."""

    def __init__(
        self,
        process: subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        files: socket.socket,
        pidfd: int,
        output: WorkerOutput,
    ) -> None:
        super().__init__(process.pid, reader, writer)
        self._process = process
        self._files = files
        self._pidfd = pidfd
        self._output = output
        self._reaper = asyncio.create_task(self._reap())
        _running.add(self)

    @classmethod
    async def start(cls, spec: WorkerSpec) -> WorkerProcess:
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as undo:
            ours, channel = socket.socketpair()
            theirs.callback(channel.close)
            undo.callback(ours.close)
            reader, writer = await asyncio.open_connection(sock=ours)
            undo.callback(writer.transport.abort)
            files, their_files = job_files.socketpair()
            theirs.callback(their_files.close)
            undo.callback(files.close)
            written, output = os.pipe()
            theirs.callback(os.close, output)
            undo.callback(os.close, written)
            log = _log_descriptor()
            theirs.callback(os.close, log)
            inherited = (channel.fileno(), their_files.fileno(), log)
            process = await subprocess.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "workers.runtime.process", *map(str, inherited)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment_of(spec.environment),
                pass_fds=inherited,
                start_new_session=True,
            )
            undo.callback(process.kill)
            pidfd = pidfd_open(process.pid)
            undo.pop_all()
        taken = WorkerOutput(written, f"{spec.lane} worker {process.pid}")
        worker = cls(process, reader, writer, files, pidfd, taken)
        worker.send(spec)
        return worker

    def send(self, message: ToWorker) -> None:
        """As Worker.send. Raises OSError where a job's files cannot be opened."""
        if isinstance(message, Submit) and not self._exit.done():
            message = self._with_files(message)
        super().send(message)

    def _with_files(self, submit: Submit) -> Submit:
        """Open the files of the job, and send them ahead of its message."""
        with job_files.opened(submit.request) as descriptors:
            if descriptors:
                try:
                    socket.send_fds(self._files, [submit.job.encode()], descriptors)
                except ConnectionError:
                    pass  # it has died
                except OSError as error:  # it has left hundreds of jobs' files where they are
                    log.error("worker process %d is killed: it does not take files (%s)", self.pid, error)
                    self.kill()
            return replace(submit, files=len(descriptors))

    def kill(self) -> None:
        if not self._exit.done():
            self._kill_group()
            self._writer.transport.abort()  # nobody listens to one that cannot be killed

    async def close(self) -> int:
        self.kill()
        try:
            async with asyncio.timeout(_REAP_TIMEOUT):
                code = await self.wait()
        except TimeoutError:
            log.error("worker process %d was killed and is not gone yet: nobody waits for it any longer", self.pid)
            code = -signal.SIGKILL
        self._files.close()
        await self._disconnect()
        return code

    async def _reap(self) -> None:
        # A pidfd becomes readable at the process's own death. The end of its channel waits for children of the engine
        # that inherited it.
        loop = asyncio.get_running_loop()
        died = asyncio.Event()
        loop.add_reader(self._pidfd, died.set)
        try:
            await died.wait()
        finally:
            loop.remove_reader(self._pidfd)
        self._kill_group()
        code = await self._process.wait()
        self._output.close()
        self._exit.set_result(code)
        _running.discard(self)
        os.close(self._pidfd)
        # What the worker wrote is in the socket already and end of file follows it, unless a child of its own still
        # held the other end.
        loop.call_later(0.1, self._writer.transport.abort)

    def _kill_group(self) -> None:
        """The worker and what its engine has started. By the pidfd, since a number may be another process's by now."""
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL, None, _PROCESS_GROUP)
        except ProcessLookupError:
            pass  # all of it is gone
        except OSError:  # an older kernel: the number is the group's for as long as one of it lives
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


def _log_descriptor() -> int:
    """A copy of standard error's; of /dev/null's in a program that has closed it."""
    try:
        return os.dup(sys.__stderr__.fileno() if sys.__stderr__ else -1)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
