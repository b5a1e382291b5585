"""Running durable tasks: a few at a time are claimed from the store and carried through the pipeline."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from diarserve.core.errors import ServiceError, StorageFull, is_storage_full, is_temporary
from diarserve.core.offload import offload
from diarserve.core.types import PRIORITIES, Priority, Status
from diarserve.tasks import completion
from diarserve.tasks.completion import retry_store, run_to_completion
from diarserve.tasks.recordings import Recordings
from diarserve.tasks.store.protocol import Store, StoreError, TaskRow
from diarserve.tasks.task import Task
from diarserve.transcript.document import LARGE, Document, encode
from workers.runtime.logs import log_context

log = logging.getLogger(__name__)


_LONGEST_PAUSE = 300.0  # seconds between two tries of a task that found the disk full


@dataclass(slots=True)
class StorageWait:
    tries: int = 0
    since: float = field(default_factory=time.monotonic)  # seconds


@dataclass(slots=True, eq=False)
class Run:
    row: TaskRow
    work: asyncio.Task[None]
    paused: bool = False  # the server lacks a worker or disk space: it goes back to the queue after a pause


class Runner:
    def __init__(
        self,
        store: Store,
        recordings: Recordings,
        task_of: Callable[[TaskRow], Task],
        process: Callable[[Task], Awaitable[Document]],
        on_end: Callable[[], None],
        per_priority: int,
        storage_wait: float,
    ) -> None:
        """task_of: the row as a task that others may be watching.
        process: the pipeline. Raises ServiceError.
        per_priority: tasks of each priority that run at the same time.
        storage_wait: seconds that a task waits for room on a full disk before it fails."""
        self._store = store
        self._recordings = recordings
        self._task_of = task_of
        self._process = process
        self._on_end = on_end
        self._per_priority = per_priority
        self._storage_wait = storage_wait
        self._runs: dict[str, Run] = {}
        self._waits: dict[str, StorageWait] = {}  # of tasks that found the disk full
        self._wake = asyncio.Event()
        self.held = False  # whether queued tasks stay there

    def __len__(self) -> int:
        return len(self._runs)

    def has(self, id: str) -> bool:
        return id in self._runs

    def attempts(self) -> dict[str, int]:
        """Of the tasks that run."""
        return {id: run.row.attempts for id, run in self._runs.items()}

    def wake(self) -> None:
        """Tasks were queued."""
        self._wake.set()

    async def stop(self, id: str) -> None:
        """End the task's work, if there is any, without a word to the store."""
        self._waits.pop(id, None)
        if run := self._runs.get(id):
            run.work.cancel()
            await asyncio.wait((run.work,))

    async def run(self) -> None:
        """Run queued tasks until cancelled; what is under way then goes back to the queue."""
        try:
            while True:
                self._wake.clear()
                try:
                    await run_to_completion(self._claim())
                except StoreError:
                    log.exception("no task can be claimed")
                    await asyncio.sleep(completion.PAUSE)
                else:
                    await self._wake.wait()
        finally:
            runs = list(self._runs.values())
            for run in runs:
                run.work.cancel()
            await asyncio.gather(*(run.work for run in runs), return_exceptions=True)
            await asyncio.gather(*(self._give_back(run.row) for run in runs))

    async def _give_back(self, row: TaskRow) -> None:
        try:
            await self._store.release(row.id, row.attempts)
        except StoreError as error:  # the next start queues it again, or another server
            log.warning("task %s cannot be put back into the queue: %s", row.id, error)

    async def _claim(self) -> None:
        # Each priority has room of its own, so that urgent tasks never wait to be claimed. Which goes first in the
        # models is the lanes' affair.
        room = {priority: places for priority in PRIORITIES if (places := self._room(priority)) > 0}
        if self.held or not room:
            return
        for row in await self._store.claim(room):
            if row.id in self._runs:  # the lease had ended: another server put it back
                await self.stop(row.id)
            work = asyncio.create_task(self._carry(row))
            self._runs[row.id] = Run(row, work)
            work.add_done_callback(partial(self._forget, row.id))

    def _room(self, priority: Priority) -> int:
        """Paused tasks leave their room to others, which may need less; but no more than as many again, or a full
        disk would have the whole queue tried and paused."""
        runs = [run for run in self._runs.values() if run.row.priority == priority]
        paused = sum(run.paused for run in runs)
        return self._per_priority - len(runs) + min(paused, self._per_priority)

    def _forget(self, id: str, _: asyncio.Task[None]) -> None:
        del self._runs[id]
        self._recordings.discard(id)
        self._wake.set()

    async def _carry(self, row: TaskRow) -> None:
        task, id, attempt = self._task_of(row), row.id, row.attempts
        with log_context(id):
            try:
                document = await self._process(task)
            except Exception as error:
                if is_temporary(error) and (pause := self._pause_for(id, error)) is not None:
                    log.warning("the task is queued again: %s", error)
                    await self._pause(row, task, pause, waits_for_storage=id in self._waits)
                    return
                if is_storage_full(error):
                    hours = self._storage_wait / 3600
                    error = StorageFull(f"The server's disk had no room for this recording for {hours:.0f} hours.")
                if not isinstance(error, ServiceError):
                    log.exception("the task failed")
                await self._end(task, "failed", partial(self._store.fail, id, attempt, _error_row(error)))
            else:
                body = await offload(document.words > LARGE, encode, document)
                complete = partial(
                    self._store.complete,
                    id,
                    attempt,
                    body,
                    audio_seconds=document.duration,
                    processing_seconds=document.performance.processing_time,
                )
                await self._end(task, "completed", complete)

    def _pause_for(self, id: str, error: Exception) -> float | None:
        """Seconds until the task is tried again: on a full disk each time twice as many. None where it has waited long
        enough."""
        if not is_storage_full(error):
            return completion.PAUSE
        wait = self._waits.setdefault(id, StorageWait())
        wait.tries += 1
        pause = min(completion.PAUSE * 2.0 ** min(wait.tries - 1, 20), _LONGEST_PAUSE)
        return pause if time.monotonic() + pause - wait.since <= self._storage_wait else None

    async def _pause(self, row: TaskRow, task: Task, seconds: float, *, waits_for_storage: bool) -> None:
        """Back to the queue, the attempt not counted. After a while, or it would be claimed again at once."""
        task.become("queued", waits_for_storage=waits_for_storage)
        self._runs[row.id].paused = True
        self._recordings.discard(row.id)  # the disk may be full
        self._wake.set()
        await asyncio.sleep(seconds)
        await retry_store(partial(self._store.release, row.id, row.attempts))

    async def _end(self, task: Task, status: Status, change: Callable[[], Awaitable[bool]]) -> None:
        self._waits.pop(task.id, None)
        if await retry_store(change):
            # The recording last: a server that starts after a crash in between needs it.
            await self._recordings.remove(task.id)
            task.become(status)
            self._on_end()


def _error_row(error: Exception) -> dict[str, Any]:
    """As TaskRow.error keeps it."""
    if isinstance(error, ServiceError):
        return {"status": error.status, "code": error.code, "message": error.message, "param": error.param}
    return {"status": 500, "code": "internal", "message": "The server failed on this task; its log says why."}
