"""The threads that run a worker's steps."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

Work = TypeVar("Work")
Inbox = SimpleQueue[Work | None]


class StepThreads(Generic[Work]):
    """Threads that are started when they are needed. The one that became idle last works next, so that as few as
    possible ever work: what libraries keep for each thread (OpenMP its helpers, CUDA a stream and its memory) is kept
    for few. An executor would give work to all of its threads in turn.

    `serve` is what a thread runs: it takes work from its inbox until that gives None, and tells `became_idle` whenever
    it has done all of it. The caller holds a lock of its own around every call but `close`.
    """

    def __init__(self, serve: Callable[[Inbox[Work]], None]) -> None:
        self._serve = serve
        self._threads: list[tuple[Thread, Inbox[Work]]] = []
        self._idle: list[Inbox[Work]] = []

    def submit(self, work: Work) -> None:
        """To an idle thread, or to a new one."""
        inbox = self._idle.pop() if self._idle else self._start()
        inbox.put(work)

    def became_idle(self, inbox: Inbox[Work]) -> None:
        self._idle.append(inbox)

    def close(self) -> None:
        """Wait for the work that is under way."""
        for _, inbox in self._threads:
            inbox.put(None)
        for thread, _ in self._threads:
            thread.join()

    def _start(self) -> Inbox[Work]:
        inbox: Inbox[Work] = SimpleQueue()
        thread = Thread(target=self._serve, args=(inbox,), name=f"step-{len(self._threads)}", daemon=True)
        self._threads.append((thread, inbox))
        thread.start()
        return inbox
