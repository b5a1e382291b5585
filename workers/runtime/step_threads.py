"""The threads that do a worker's steps."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

Work = TypeVar("Work")
Inbox = SimpleQueue[Work | None]


class StepThreads(Generic[Work]):
    """Whoever rested last works next, so that few threads ever work: what libraries keep for each of them (OpenMP its
    helpers, CUDA a stream and its memory) is kept once. An executor goes round all of its threads.

    `serve` is a thread's life: it works on what its inbox brings, until that is None, and rests in between. The caller
    holds a lock of its own around every call but `close`.
    """

    def __init__(self, serve: Callable[[Inbox[Work]], None]) -> None:
        self._serve = serve
        self._threads: list[tuple[Thread, Inbox[Work]]] = []
        self._resting: list[Inbox[Work]] = []

    def hand(self, work: Work) -> None:
        inbox = self._resting.pop() if self._resting else self._begin()
        inbox.put(work)

    def rest(self, inbox: Inbox[Work]) -> None:
        self._resting.append(inbox)

    def close(self) -> None:
        """Wait for what is being worked on."""
        for _, inbox in self._threads:
            inbox.put(None)
        for thread, _ in self._threads:
            thread.join()

    def _begin(self) -> Inbox[Work]:
        inbox: Inbox[Work] = SimpleQueue()
        thread = Thread(target=self._serve, args=(inbox,), name=f"step-{len(self._threads)}", daemon=True)
        self._threads.append((thread, inbox))
        thread.start()
        return inbox
