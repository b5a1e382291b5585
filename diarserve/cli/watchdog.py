"""The main thread: it waits for signals, and sees to it that the process ends, whatever the server's own thread does.

A handler on the event loop would hear of no signal while the loop hangs: on a disk that does not answer, or in a call
that never returns. The main thread waits for signals alone, so nothing can keep it from hearing them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from diarserve.pool import worker_process

log = logging.getLogger(__name__)

CLEANUP = 3.0  # seconds after the requests' own, to end workers and close the store
LAST = 5.0  # seconds after the requests' own: then the kernel ends the process
_ENDED = 0  # beside the numbers of signals: the server has ended
HUNG = 1  # the exit code where the server did not end by itself


def run(serve: Callable[[], Coroutine[Any, Any, None]], new_loop: Callable[[], AbstractEventLoop], stop: float) -> int:
    """Run the server in a thread with an event loop of its own. To be called in the main thread. The exit code.

    The first SIGTERM or SIGINT cancels it, which it takes as the order to end within `stop` seconds: 0. If it has not
    ended 3 s later, workers are killed and the process ends: 1. A second signal does the same at once: 128 + its
    number, as shells have it. Where nothing of that happens, since some code in C keeps the interpreter's lock, the
    kernel's timer ends the process after 5 s (SIGALRM).

    Raises what the server raised.
    """
    ears, mouth = os.pipe()  # Python writes the number of every signal to it, whichever thread the kernel gave it to
    os.set_blocking(mouth, False)
    signal.set_wakeup_fd(mouth)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    server = _Server(serve, new_loop, lambda: os.write(mouth, bytes([_ENDED])))
    server.start()
    first = _heard(ears)
    if first:
        log.info("%s: requests under way have %.0f s to end", signal.Signals(first).name, stop)
        signal.setitimer(signal.ITIMER_REAL, stop + LAST)
        server.stop()
        second = _heard(ears, stop + CLEANUP)
        if second is None:
            log.error("ended by force: the server did not end within %.0f s", stop + CLEANUP)
            _end(HUNG)
        if second:
            log.warning("ended at once by a second signal")
            _end(128 + second)
    server.join()
    if server.error:
        raise server.error
    return 0


def _heard(ears: int, seconds: float | None = None) -> int | None:
    """The next signal's number, or _ENDED; None where there is none for so long."""
    readable, _, _ = select.select([ears], [], [], seconds)
    return os.read(ears, 1)[0] if readable else None


def _end(code: int) -> None:
    worker_process.kill_all()
    os._exit(code)


class _Server(threading.Thread):
    def __init__(
        self,
        serve: Callable[[], Coroutine[Any, Any, None]],
        new_loop: Callable[[], AbstractEventLoop],
        on_end: Callable[[], object],
    ) -> None:
        super().__init__(name="server", daemon=True)
        self.error: BaseException | None = None
        self._serve = serve
        self._runner = asyncio.Runner(loop_factory=new_loop)
        self._loop = self._runner.get_loop()
        self._stopped = asyncio.Event()
        self._on_end = on_end

    def stop(self) -> None:
        with suppress(RuntimeError):  # its loop is closed: it has just ended
            self._loop.call_soon_threadsafe(self._stopped.set)

    def run(self) -> None:
        try:
            with self._runner:
                self._runner.run(self._until_stopped())
        except BaseException as error:
            self.error = error
        finally:
            self._on_end()

    async def _until_stopped(self) -> None:
        serving, stopped = asyncio.create_task(self._serve()), asyncio.create_task(self._stopped.wait())
        await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        serving.cancel()  # unless it has failed
        with suppress(asyncio.CancelledError):
            await serving
