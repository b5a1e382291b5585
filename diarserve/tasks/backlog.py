"""Durable tasks: their rows are in the store, their recordings on disk, and a few at a time in the pipeline.

A row is written before the client hears of its task, and says "processing" with its attempt counted before work
starts. A server that dies leaves rows and recordings; the next one queues them again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from diarserve.core.errors import NotReady
from diarserve.core.options import Options
from diarserve.core.settings import Limits
from diarserve.core.types import Priority, Status
from diarserve.tasks import completion
from diarserve.tasks.admission import Admission
from diarserve.tasks.cluster import Cluster
from diarserve.tasks.completion import run_to_completion
from diarserve.tasks.recordings import Recordings
from diarserve.tasks.registry import Tasks
from diarserve.tasks.runner import Runner
from diarserve.tasks.spool import Spool
from diarserve.tasks.store.protocol import SharedStore, Store, StoreError, StoreUnreachable, TaskRow
from diarserve.tasks.task import Task
from diarserve.transcript.document import Document

log = logging.getLogger(__name__)

T = TypeVar("T")


class Backlog:
    """Clients submit durable tasks to it, watch, await and cancel them; the service has it recover, run and clean."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        recordings: Recordings,
        tasks: Tasks,
        process: Callable[[Task], Awaitable[Document]],
        on_end: Callable[[], None],
        limits: Limits,
        shared: SharedStore | None = None,
    ) -> None:
        """process: the pipeline. on_end: told when a task has ended, for its callback. shared: the store, where there
        are several servers."""
        self._store = store
        self._spool = spool
        self._recordings = recordings
        self._process = process
        self._tasks = tasks
        self._on_end = on_end
        self._limits = limits
        self._admission = Admission(store, recordings, limits.max_queued, tasks.wait_estimate)
        self._runner = Runner(
            store, recordings, self._claimed, self._work, on_end, limits.running, limits.storage_wait_hours * 3600
        )
        self._cluster = Cluster(shared, self._runner, tasks, self._requeue) if shared else None
        self._closing = False
        self._requeued = True  # what an earlier server was processing

    async def recover(self) -> None:
        """Remove folders that belong to no unfinished task, and queue again what an earlier server was processing. On
        a disk that is full even then, that waits until there is room: what is stored can be read and deleted."""
        unfinished = [] if self._cluster else [*await self._ids("processing"), *await self._ids("queued")]
        self._recordings.sweep(set(unfinished))
        try:
            await self._with_reserve(self._requeue)
        except StoreError as error:
            log.warning("tasks of an earlier server wait until they can be queued again: %s", error)
            self._requeued = False

    async def _ids(self, status: Status) -> list[str]:
        ids: list[str] = []
        while page := await self._store.page(status=status, limit=1000, before=ids[-1] if ids else None):
            ids += [row.id for row in page]
        return ids

    async def _requeue(self) -> None:
        queued, failed = await self._store.recover(self._limits.attempts)
        if queued or failed:
            log.warning("of an earlier server's tasks %d are queued again, %d failed", len(queued), len(failed))
        for row in failed:
            await self._recordings.remove(row.id)
        if failed:
            self._on_end()

    async def _with_reserve(self, change: Callable[[], Awaitable[T]]) -> T:
        """Make a change of the store that must be possible on a full disk. Raises StoreError where it is not, even with
        what is reserved for it."""
        try:
            return await change()
        except StoreUnreachable:
            raise
        except StoreError:
            await asyncio.to_thread(self._spool.reserve.give_up)
            return await change()
        finally:
            await asyncio.to_thread(self._spool.reserve.take)

    async def admit(self, tasks: int = 1) -> None:
        """Raises Busy when the queue has no room for so many."""
        await self._admission.require_room(tasks)

    async def submit(
        self,
        recordings: Sequence[tuple[Path, str]],
        options: Options,
        priority: Priority,
        *,
        batch_id: str | None = None,
        key: str | None = None,
        owner: str = "",
    ) -> list[TaskRow]:
        """Accept recordings (incoming folder, file name): once this returns they will be worked on, whatever happens
        to this server. With a key that their owner used before: that call's tasks. Raises ServiceError."""
        try:
            return await self._admission.submit(recordings, options, priority, batch_id=batch_id, key=key, owner=owner)
        finally:  # also where the client went away while its tasks were accepted
            if self._cluster is None:  # else the store tells all servers, this one too
                self._runner.wake()

    async def run(self) -> None:
        """Run queued tasks until cancelled; what is under way then goes back to the queue."""
        while not self._requeued:
            await asyncio.sleep(completion.PAUSE)
            with suppress(StoreError):
                await self._requeue()
                self._requeued = True
        await self._runner.run()

    @property
    def running(self) -> int:
        """Tasks that are worked on."""
        return len(self._runner)

    def hold(self, held: bool) -> None:
        """Begin none of the queued tasks, or go on with them. What is worked on is ended in any case."""
        self._runner.held = held
        self._runner.wake()

    async def keep_up(self) -> None:
        """Be one server among several, until cancelled."""
        if self._cluster:
            await self._cluster.run()

    @property
    def connected(self) -> bool:
        """Whether tasks can be accepted and asked for: False of one server of several that the others take for dead."""
        return self._cluster is None or self._cluster.connected

    async def _work(self, task: Task) -> Document:
        if self._cluster is None:
            return await self._process(task)
        try:
            await self._recordings.fetch(task.id)
            await self._cluster.catch_up(task)
        except StoreUnreachable as error:
            raise NotReady(str(error)) from error
        document = await self._process(task)
        with suppress(StoreError):  # clients that watch it elsewhere miss its last words
            await self._cluster.report()
        return document

    async def delete(self, id: str) -> TaskRow | None:
        """Delete a task that has ended, and everything that is kept of it; cancel one that has not: its work stops in
        both models, its recording is gone, and its row says so until it is deleted too or expires. The task as it was,
        or cancelled; None where there is none.

        Whatever else is kept of a task must go with it: in the store by a foreign key with ON DELETE CASCADE, on the
        disk by lying in the task's folder.
        """
        return await run_to_completion(self._delete(id))

    async def _delete(self, id: str) -> TaskRow | None:
        while True:  # it may end between the two
            if row := await self._with_reserve(partial(self._store.delete, id)):
                await self._recordings.remove(id)  # the row first: at the start, what has none is removed
                return row
            row = await self._cancel(id)
            if row is None or row.status == "cancelled":
                return row

    async def _cancel(self, id: str) -> TaskRow | None:
        row = await self._with_reserve(partial(self._store.cancel, id))
        if row is not None and row.status == "cancelled":
            await self._runner.stop(id)
            await self._recordings.remove(id)
            if task := self._tasks.find(id):
                task.become("cancelled")
            self._on_end()
        return row

    def _claimed(self, row: TaskRow) -> Task:
        if row.attempts > 1:
            self._tasks.count_retry()
        return self.task(row)

    def task(self, row: TaskRow) -> Task:
        """The row as a task that can be run or watched: one for all who ask."""
        task = self._tasks.find(row.id)
        if task is None:
            task = self._made(row)
            self._tasks.remember(task)
        return task

    def _made(self, row: TaskRow) -> Task:
        options = Options.model_validate(row.options)
        folder = self._spool.durable / row.id
        task = Task(
            folder, row.filename, options, row.priority, owner=row.owner, created_at=row.created_at, status=row.status
        )
        task.traceparent = row.traceparent
        if row.progress:
            task.stages.update(row.progress.stages)
            task.waits_for_storage = row.progress.waits_for_storage
        return task

    def shown(self, row: TaskRow) -> Task | None:
        """How the task goes, where that is known. Of several servers all show the same: what the row says."""
        if self._cluster is None:
            return self._tasks.find(row.id)
        return self._made(row) if row.progress else None

    async def watched(self, row: TaskRow) -> Task:
        """The row's task, for somebody to watch."""
        task = self.task(row)
        # The row is read again now that the task is held: its end from here on is told to the task, and one before
        # is seen here.
        current = await self._store.get(row.id)
        if current is None or current.ended:
            task.become(current.status if current else "expired")
        elif self._closing:
            task.become("released")
        return task

    async def ended(self, row: TaskRow) -> None:
        """Wait until the task has ended. Raises NotReady when the server shuts down before."""
        task = await self.watched(row)
        async for _ in task.watch():
            pass
        if task.status == "released":
            raise NotReady("The server is shutting down; ask again with the same Idempotency-Key.", retry_after=5)

    def release_waiters(self) -> None:
        """Let nobody wait for a task any longer: the server is shutting down."""
        self._closing = True
        for task in self._tasks.all():
            task.become("released")

    async def clean(self) -> None:
        """Drop documents that have been kept long enough, and later what is left of their tasks."""
        age = self._limits.keep_results_hours * 3600
        for id in await self._with_reserve(partial(self._store.expire, time.time() - age)):
            await self._recordings.remove(id)
        await self._store.purge(time.time() - 7 * age)
        await self._recordings.clean()
        await asyncio.to_thread(self._spool.reserve.take)


async def clean_regularly(backlog: Backlog, every: float = 60.0) -> None:
    while True:
        try:
            await backlog.clean()
        except (StoreError, OSError):
            log.exception("results cannot be cleaned up")
        await asyncio.sleep(every)
