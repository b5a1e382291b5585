"""The contract of a store of durable tasks, for those who write another one. diarserve.tasks.store.sqlite is one file
of one server, diarserve.tasks.store.postgres a database that several servers share.

A 2xx answer means that `add` has returned. Work is at least once: the attempt number goes up before the work starts,
and only the newest attempt may end its task. Times are unix seconds.

Every method is one transaction: it has happened wholly, durably and visibly to the next call when it returns, and not
at all when it raises. Cancelling the caller leaves one or the other, never a half. Every method may raise StoreError
(a full or failing disk, a lost connection); callers may try again. Methods may be called at the same time.

    rows, created = await store.add([NewTask("a", "call.wav", {}, "normal")], "key", max_queued=10_000)
    [row] = await store.claim({"normal": 1})  # status processing, attempts 1
    await store.complete(row.id, row.attempts, b"{}", audio_seconds=30.0, processing_seconds=2.0)  # True
    await store.fail(row.id, row.attempts, error)  # False: it has ended
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from yarl import URL

from diarserve.core.types import Priority, Status


class StoreError(Exception):
    """The store cannot be opened (the message names the file), read or written."""


class StoreUnreachable(StoreError):
    """Nobody knows whether it can: the database or the object store does not answer."""


class QueueFull(Exception):
    """More tasks would wait than may."""


@dataclass(frozen=True, slots=True)
class TaskProgress:
    stages: Mapping[str, float]  # share done of each
    waits_for_storage: bool = False  # its server found a disk full, and tries it again


@dataclass(frozen=True, slots=True)
class NewTask:
    id: str
    filename: str
    options: dict[str, Any]
    priority: Priority
    batch_id: str | None = None
    position: int = 0  # in its batch
    callback_url: str | None = None
    owner: str = ""  # whose it is: the id of an access key; empty: it was submitted without one
    upload_sha256: bytes | None = None  # of the recording, 32 bytes; None: submitted without an Idempotency-Key
    traceparent: str = ""  # of the trace that it is part of (W3C Trace Context); empty: of none


@dataclass(frozen=True, slots=True)
class TaskRow:
    id: str
    filename: str
    options: dict[str, Any]
    priority: Priority
    batch_id: str | None
    position: int
    callback_url: str | None
    status: Status
    created_at: float
    started_at: float | None  # of the newest attempt
    finished_at: float | None
    attempts: int
    error: dict[str, Any] | None  # status (HTTP's), code, message, perhaps param
    owner: str  # as NewTask.owner
    upload_sha256: bytes | None  # as NewTask.upload_sha256; None too in rows of an earlier version
    # Of a task that is processed, where several servers share the store: how it goes, as its server last wrote.
    progress: TaskProgress | None = None
    traceparent: str = ""  # as NewTask.traceparent

    @property
    def ended(self) -> bool:
        return self.finished_at is not None

    @property
    def cursor(self) -> str:
        """Its place in `Store.page`, also when it is deleted."""
        return f"{self.id}_{self.created_at!r}_{self.position}"


def origin(url: str) -> str:
    """Scheme, host and port.

    >>> origin("https://Example.org/hook?x")
    'https://example.org'
    """
    return str(URL(url).origin())


@dataclass(frozen=True, slots=True)
class Revision:
    """What somebody changed in a finished document."""

    number: int  # from 1
    created_at: float
    changes: bytes  # JSON; what it means is diarserve.transcript.changes's business


@dataclass(frozen=True, slots=True)
class Callback:
    """An ended task whose client has not been told."""

    task: TaskRow
    attempts: int  # made so far
    origin: str  # of its callback_url, see `origin`


@dataclass(frozen=True, slots=True)
class Totals:
    """Of all tasks that ever ended, purged ones included."""

    completed: int
    failed: int
    cancelled: int
    audio_seconds: float  # of completed tasks
    processing_seconds: float  # of completed tasks


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in the store."""

    oldest_queued: Mapping[Priority, float]  # when the oldest queued task was created; priorities without one left out
    callbacks: int  # due, or to be made again


class Store(Protocol):
    async def close(self) -> None: ...

    async def add(
        self, tasks: Sequence[NewTask], idempotency_key: str | None = None, *, max_queued: int | None = None
    ) -> tuple[list[TaskRow], bool]:
        """All the tasks (of one owner) or none, and True; or, where that owner used the key before, that call's tasks
        and False. Raises QueueFull where more than `max_queued` tasks would then be queued."""

    async def claim(self, room: Mapping[Priority, int]) -> list[TaskRow]:
        """Of each priority the oldest queued tasks, as many as there is room for, now processing, their attempts
        counted: high first. Who cancels this call cannot know whether any were; `recover` puts them back."""

    async def complete(
        self, id: str, attempt: int, document: bytes, *, audio_seconds: float, processing_seconds: float
    ) -> bool:
        """False, and nothing changed, where the attempt is not the one that is under way."""

    async def fail(self, id: str, attempt: int, error: dict[str, Any]) -> bool:
        """As `complete`."""

    async def release(self, id: str, attempt: int) -> bool:
        """Back to its place in the queue, as if it had not been claimed: an orderly shutdown. As `complete`."""

    async def cancel(self, id: str) -> TaskRow | None:
        """The task, cancelled unless it had ended before; None where there is none."""

    async def delete(self, id: str) -> TaskRow | None:
        """Forget a task that has ended: its document, its callback, its idempotency record (of a batch: that of the
        whole batch, which is not whole any more) and its row, as it was, which is returned. None, and nothing changed,
        where there is none or it has not ended. Nothing of it stays legible in the store's files."""

    async def get(self, id: str) -> TaskRow | None: ...

    async def result(self, id: str) -> bytes | None:
        """The document of a completed task that has not expired."""

    async def revise(self, id: str, number: int, changes: bytes) -> bool:
        """Keep changes of a task's document as its revision with this number. False, and nothing changed, where that is
        not the next one (the first is 1), or the task has no document. `result` stays what it was; revisions go
        wherever the document goes, by `delete` and `expire`."""

    async def revisions(self, id: str) -> list[Revision]:
        """By number; none where there is no document."""

    async def ahead(self, id: str) -> int | None:
        """How many queued tasks are claimed before this one if high goes first; None where it is not queued."""

    async def page(
        self,
        *,
        status: Status | None = None,
        batch_id: str | None = None,
        owner: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> list[TaskRow]:
        """Newest first. `owner`: only this one's. `before`: where the page before this one
        ended, as that task's cursor, or its id: then nothing where it is gone."""

    async def batch(self, batch_id: str, owner: str | None = None) -> list[TaskRow]:
        """By position. `owner`: only this one's."""

    async def recover(self, max_attempts: int) -> tuple[list[TaskRow], list[TaskRow]]:
        """What servers that are gone left processing is queued again (first list), or failed where it has had its
        attempts (second list). To be called once, at the start: a file has one server, so all others are gone. Of a
        SharedStore again and again."""

    async def expire(self, older_than: float) -> list[str]:
        """Drop the documents of tasks that ended before that time, as wholly as `delete`; the tasks stay, as expired.
        Their ids."""

    async def purge(self, older_than: float) -> int:
        """Forget expired tasks that ended before that time. How many."""

    async def counts(self) -> dict[Status, int]:
        """Tasks by their present status, all six of them. Asked by every submission and scrape: it must not scan."""

    async def totals(self) -> Totals: ...

    async def waiting(self) -> Waiting:
        """Asked at every scrape."""

    async def due_callbacks(self, now: float, limit: int, *, except_origins: Collection[str] = ()) -> list[Callback]:
        """The longest due first, but for those of some origins. A task becomes due in the transaction that ends it."""

    async def take_callbacks(self, ids: Collection[str], until: float) -> set[str]:
        """Those of the due callbacks that this server makes now: no other is given them before that time, at which they
        are due again unless it was told how they went."""

    async def callback_sent(self, id: str) -> None: ...

    async def callback_failed(self, id: str, next_at: float | None) -> None:
        """Count an attempt; the next is due at that time, or never."""


@dataclass(frozen=True, slots=True)
class Report:
    """How a task goes that this server runs: what others do not know yet."""

    id: str
    attempt: int
    progress: TaskProgress
    first: int  # the number of the first of the news, from 0
    news: Sequence[bytes]  # encoded words and turns, as they became known


@dataclass(frozen=True, slots=True)
class Changed:
    """A task that another call or another server has changed or reported on; `id` None: any may have."""

    id: str | None
    queued: bool = False  # it can be claimed
    claimed: bool = False  # a server runs it
    ended: bool = False  # it has, or is deleted


class SharedStore(Store, Protocol):
    """A store that several servers use. Each holds a lease, renewed while it lives: what a server whose lease has ended
    was processing is anybody's to `recover`. `complete`, `fail` and `release` change what this server claimed, in the
    attempt that is under way, and nothing else."""

    lease_seconds: float

    async def renew(self, runs: Mapping[str, int]) -> Collection[str]:
        """Hold the lease for lease_seconds from now on. Of the tasks with their attempts that this server runs: the
        ids of those that are no more its own. Raises StoreError."""

    async def report(self, reports: Sequence[Report]) -> None:
        """Let other servers know. Reports on what is not this server's any more change nothing."""

    async def news(self, id: str, first: int = 0) -> list[bytes]:
        """Of a task, in their order, from that number on: of its earlier attempts too. They go a while after its end,
        at once where it is cancelled or deleted."""

    async def listen(self, on_change: Callable[[Changed], None]) -> None:
        """Call it for every change, until cancelled. Raises StoreError when the connection is lost: what changed until
        the next call is missed."""

    async def needed_objects(self, ids: Collection[str]) -> Mapping[str, str]:
        """Of those tasks, what the keys of the objects that they need begin with: all of its own until it has ended,
        then its document. None of the others."""
