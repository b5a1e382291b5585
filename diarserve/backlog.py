"""Tasks that survive: their rows are in the store, their recordings on disk, and a few at a time in the pipeline.

A row is written before the client hears of its task, and says "processing" with its attempt counted before work
starts. A server that dies leaves rows and recordings; the next one queues them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from diarserve.errors import Busy, NotReady, ServiceError
from diarserve.options import Options
from diarserve.settings import Limits
from diarserve.spool import Spool
from diarserve.store import PRIORITIES, NewTask, Priority, Store, TaskRow
from diarserve.tasks import Task, Tasks
from workers.logs import about

log = logging.getLogger(__name__)

_PAUSE = 5.0  # seconds before a task is tried again that found no worker

# Raised inside the task that carries a row to say that the row is cancelled already: nothing is to be given back.
_CANCELLED = "cancelled by its owner"


class Backlog:
    def __init__(
        self,
        store: Store,
        spool: Spool,
        tasks: Tasks,
        process: Callable[[Task], Awaitable[dict[str, Any]]],
        ended: Callable[[], None],
        limits: Limits,
    ) -> None:
        self._store = store
        self._spool = spool
        self._tasks = tasks
        self._process = process
        self._ended = ended
        self._limits = limits
        self._running: dict[str, tuple[Priority, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()

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
        happens to this server. With a key that was used before: that call's tasks. Raises Busy."""
        await self.admit()
        await asyncio.to_thread(self._keep, [folder for folder, _ in recordings])
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
        created = False
        try:
            rows, created = await self._store.add(new, key)
        finally:
            if not created:
                for folder, _ in recordings:
                    self._spool.remove(self._spool.kept / folder.name)
        self._wake.set()
        return rows

    async def admit(self) -> None:
        """Raises Busy when the queue is full."""
        if (await self._store.counts())["queued"] >= self._limits.max_queued:
            raise Busy("The queue is full; try again later.", retry_after=self._tasks.wait_estimate())

    async def cancel(self, id: str) -> TaskRow | None:
        """The task, cancelled unless it had ended; its work stops in both models and its files are gone."""
        row = await self._store.cancel(id)
        if row is not None and row.status == "cancelled":
            if running := self._running.get(id):
                running[1].cancel(_CANCELLED)
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

    async def ended(self, row: TaskRow) -> None:
        """Wait until the task has ended."""
        task = self.task(row)
        current = await self._store.get(row.id)
        if current is not None and not current.ended:
            async for _ in task.watch():
                pass

    async def run(self) -> None:
        """Carry queued tasks through the pipeline until cancelled; what is under way then is queued again."""
        try:
            while True:
                self._wake.clear()
                for priority in PRIORITIES:
                    # Each priority has room of its own, so that what is urgent never waits to be claimed. Who goes
                    # first in the models is the lanes' affair.
                    busy = sum(running == priority for running, _ in self._running.values())
                    for row in await self._store.claim(priority, max(self._limits.running - busy, 0)):
                        carrying = asyncio.create_task(self._carry(row))
                        self._running[row.id] = (row.priority, carrying)
                        carrying.add_done_callback(partial(self._forget, row.id))
                await self._wake.wait()
        finally:
            under_way = [carrying for _, carrying in self._running.values()]
            for carrying in under_way:
                carrying.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _carry(self, row: TaskRow) -> None:
        task = self.task(row)
        with about(row.id):
            try:
                document = await self._process(task)
            except asyncio.CancelledError as stop:
                if stop.args != (_CANCELLED,):
                    await self._store.release(row.id, row.attempts)
                raise
            except NotReady:
                await self._store.release(row.id, row.attempts)
                task.become("queued")
                await asyncio.sleep(_PAUSE)
                return
            except Exception as error:
                if not isinstance(error, ServiceError):
                    log.exception("the task failed")
                await self._store.fail(row.id, row.attempts, _shown(error))
                task.become("failed")
            else:
                await self._store.complete(
                    row.id,
                    row.attempts,
                    orjson.dumps(document),
                    audio_seconds=document["duration"],
                    processing_seconds=document["performance"]["processing_time"],
                )
                task.become("completed")
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
        return {"status": error.status, "code": error.code, "message": error.message}
    return {"status": 500, "code": "internal", "message": "The server failed on this task; its log says why."}


async def clean_regularly(backlog: Backlog, every: float = 60.0) -> None:
    while True:
        with contextlib.suppress(OSError):
            await backlog.clean()
        await asyncio.sleep(every)
