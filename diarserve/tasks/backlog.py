"""Tasks that survive: their rows are in the store, their recordings on disk, and a few at a time in the pipeline.

A row is written before the client hears of its task, and says "processing" with its attempt counted before work
starts. A server that dies leaves rows and recordings; the next one queues them again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from diarserve.core.errors import Busy, NotReady, ServiceError, StorageFull, Unprocessable
from diarserve.core.options import Options
from diarserve.core.settings import Limits
from diarserve.core.types import PRIORITIES, Priority, Status
from diarserve.tasks.registry import Tasks
from diarserve.tasks.spool import Spool
from diarserve.tasks.store.protocol import NewTask, Store, StoreError, TaskRow
from diarserve.tasks.task import Task
from diarserve.transcript.document import Document, encode
from workers.runtime.logs import log_context

log = logging.getLogger(__name__)

_PAUSE = 5.0  # seconds before what failed for want of a worker or of disk space is tried again

T = TypeVar("T")


class Backlog:
    def __init__(
        self,
        store: Store,
        spool: Spool,
        tasks: Tasks,
        process: Callable[[Task], Awaitable[Document]],
        ended: Callable[[], None],
        limits: Limits,
    ) -> None:
        self._store = store
        self._spool = spool
        self._tasks = tasks
        self._process = process
        self._ended = ended
        self._limits = limits
        self._running: dict[str, tuple[TaskRow, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        self._closing = False

    async def recover(self) -> None:
        """Queue again what an earlier server was processing, and remove folders that belong to no task."""
        queued, failed = await self._store.recover(self._limits.attempts)
        if queued or failed:
            log.warning("of an earlier server's tasks %d are queued again, %d failed", len(queued), len(failed))
        living: list[str] = []
        before: str | None = None
        while page := await self._store.page(status="queued", limit=1000, before=before):
            living += [row.id for row in page]
            before = page[-1].id
        self._spool.sweep(set(living))

    async def submit(
        self,
        recordings: Sequence[tuple[Path, str]],
        options: Options,
        priority: Priority,
        *,
        batch_id: str | None = None,
        key: str | None = None,
    ) -> list[TaskRow]:
        """Accept recordings (incoming folder, file name): once this returns they will be worked on, whatever
        happens to this server. With a key that was used before: that call's tasks. Raises ServiceError."""
        await self.admit(len(recordings))
        new = [
            NewTask(
                folder.name,
                filename,
                options.model_dump(mode="json", exclude_defaults=True),
                priority,
                batch_id,
                position,
                str(options.callback_url) if options.callback_url else None,
            )
            for position, (folder, filename) in enumerate(recordings)
        ]
        return await _run_to_completion(self._accept([folder for folder, _ in recordings], new, key))

    async def _accept(self, folders: Sequence[Path], new: Sequence[NewTask], key: str | None) -> list[TaskRow]:
        created = False
        try:
            # Recordings first: a row must never be without one.
            await asyncio.to_thread(self._keep, folders)
            rows, created = await self._store.add(new, key)
        except (StoreError, OSError) as error:
            log.exception("a task could not be accepted")
            raise StorageFull("There is no room left for tasks; try again later.", retry_after=60) from error
        finally:
            if not created:
                for folder in folders:
                    self._spool.remove(self._spool.kept / folder.name)
        if not created and [_asked(task) for task in rows] != [_asked(task) for task in new]:
            message = "This Idempotency-Key was used before, for something else."
            raise Unprocessable(message, code="idempotency_key_reused")
        self._wake.set()
        return rows

    async def admit(self, tasks: int = 1) -> None:
        """Raises Busy when the queue has no room for so many."""
        if (await self._store.counts())["queued"] + tasks > self._limits.max_queued:
            raise Busy("The queue is full; try again later.", retry_after=self._tasks.wait_estimate())

    async def cancel(self, id: str) -> TaskRow | None:
        """The task, cancelled unless it had ended; its work stops in both models and its files are gone."""
        return await _run_to_completion(self._cancel(id))

    async def _cancel(self, id: str) -> TaskRow | None:
        row = await self._store.cancel(id)
        if row is not None and row.status == "cancelled":
            if running := self._running.get(id):
                running[1].cancel()
                await asyncio.wait((running[1],))
            self._spool.remove(self._spool.kept / id)
            if task := self._tasks.known.get(id):
                task.become("cancelled")
            self._ended()
        return row

    def task(self, row: TaskRow) -> Task:
        """The row as a task that can be run or watched: one for all who ask."""
        task = self._tasks.known.get(row.id)
        if task is None:
            options = Options.model_validate(row.options)
            task = Task(
                self._spool.kept / row.id,
                row.filename,
                options,
                row.priority,
                created_at=row.created_at,
                status=row.status,
            )
            self._tasks.known[row.id] = task
        return task

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
        for task in list(self._tasks.known.values()):
            task.become("released")

    async def run(self) -> None:
        """Carry queued tasks through the pipeline until cancelled; what is under way then is queued again."""
        try:
            while True:
                self._wake.clear()
                try:
                    await _run_to_completion(self._claim())
                except StoreError:
                    log.exception("no task can be claimed")
                    await asyncio.sleep(_PAUSE)
                else:
                    await self._wake.wait()
        finally:
            under_way = list(self._running.values())
            for _, carrying in under_way:
                carrying.cancel()
            await asyncio.gather(*(carrying for _, carrying in under_way), return_exceptions=True)
            for row, _ in under_way:
                await self._store.release(row.id, row.attempts)

    async def _claim(self) -> None:
        for priority in PRIORITIES:
            # Each priority has room of its own, so that what is urgent never waits to be claimed. Who goes first in
            # the models is the lanes' affair.
            busy = sum(row.priority == priority for row, _ in self._running.values())
            if busy < self._limits.running:
                for row in await self._store.claim(priority, self._limits.running - busy):
                    carrying = asyncio.create_task(self._carry(row))
                    self._running[row.id] = (row, carrying)
                    carrying.add_done_callback(partial(self._forget, row.id))

    async def _carry(self, row: TaskRow) -> None:
        task = self.task(row)
        status: Status
        with log_context(row.id):
            try:
                document = await self._process(task)
            except NotReady:
                task.become("queued")
                await asyncio.sleep(_PAUSE)  # before it is given back, or it would be claimed at once
                await _retry_store(partial(self._store.release, row.id, row.attempts))
                return
            except Exception as error:
                if not isinstance(error, ServiceError):
                    log.exception("the task failed")
                status, end = "failed", partial(self._store.fail, row.id, row.attempts, _shown(error))
            else:
                status, end = (
                    "completed",
                    partial(
                        self._store.complete,
                        row.id,
                        row.attempts,
                        encode(document),
                        audio_seconds=document.duration,
                        processing_seconds=document.performance.processing_time,
                    ),
                )
            if await _retry_store(end):
                # Not before: whoever starts after a crash in between needs the recording.
                self._spool.remove(task.folder)
                task.become(status)
                self._ended()

    def _forget(self, id: str, _: asyncio.Task[None]) -> None:
        del self._running[id]
        self._wake.set()

    def _keep(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            self._spool.keep(folder)

    async def clean(self) -> None:
        """Drop documents that have been kept long enough, and later what is left of their tasks."""
        age = self._limits.keep_results_hours * 3600
        for id in await self._store.expire(time.time() - age):
            self._spool.remove(self._spool.kept / id)
        await self._store.purge(time.time() - 7 * age)


def _shown(error: Exception) -> dict[str, Any]:
    if isinstance(error, ServiceError):
        return {"status": error.status, "code": error.code, "message": error.message, "param": error.param}
    return {"status": 500, "code": "internal", "message": "The server failed on this task; its log says why."}


def _asked(task: NewTask | TaskRow) -> tuple[object, ...]:
    """What two calls with one Idempotency-Key must have in common."""
    return task.filename, task.options, task.batch_id is None


async def _run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Do it to its end, even where the caller is cancelled (its client went away): half of it is worse than all."""
    doing = asyncio.create_task(work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait((doing,))
        raise


async def _retry_store(change: Callable[[], Awaitable[bool]]) -> bool:
    """How a task ended must be written: where the disk is full, as soon as it no longer is."""
    while True:
        try:
            return await change()
        except StoreError:
            log.exception("the end of a task cannot be written; trying again")
            await asyncio.sleep(_PAUSE)


async def clean_regularly(backlog: Backlog, every: float = 60.0) -> None:
    while True:
        try:
            await backlog.clean()
        except (StoreError, OSError):
            log.exception("results cannot be cleaned up")
        await asyncio.sleep(every)
