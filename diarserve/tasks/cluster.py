"""One server among several: it holds its lease, takes over from servers that are gone, tells the others how its tasks
go, and shows here how theirs do. docs/cluster.md says why this is enough."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import msgspec
from msgspec import Struct

from diarserve.tasks.registry import Tasks
from diarserve.tasks.runner import Runner
from diarserve.tasks.store.protocol import Changed, Report, SharedStore, StoreError, TaskProgress
from diarserve.tasks.task import Task
from diarserve.tasks.wakeups import Wakeups
from workers.messages import Turn, Word

log = logging.getLogger(__name__)

_REPORT_EVERY = 0.5  # seconds
_LOOK_EVERY = 5.0  # seconds between looks at what others run and somebody watches here, should a notification be lost
_LISTEN_AGAIN = 1.0  # seconds


class News(Struct, omit_defaults=True):
    """What became known of a task: words of a stretch of speech, or the turns."""

    words: tuple[Word, ...] = ()
    turns: tuple[Turn, ...] | None = None


_decoder = msgspec.msgpack.Decoder(News)
_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Told:
    """What all servers know of a task."""

    news: int = 0
    chunks: int = 0  # of its words
    turns: Sequence[Turn] | None = None
    progress: TaskProgress | None = None


class Cluster:
    def __init__(
        self, store: SharedStore, runner: Runner, tasks: Tasks, take_over: Callable[[], Awaitable[None]]
    ) -> None:
        """take_over: queues again what servers that are gone were processing. Raises StoreError."""
        self._store = store
        self._runner = runner
        self._tasks = tasks
        self._take_over = take_over
        self._wakeups = Wakeups(runner.wake, lambda: len(runner))
        self._renewed = time.monotonic()
        self._changed: set[str] = set()  # tasks to look at
        self._look = asyncio.Event()
        self._told: WeakKeyDictionary[Task, _Told] = WeakKeyDictionary()
        self._reporting = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """Whether the others take this server for alive."""
        return time.monotonic() - self._renewed < self._store.lease_seconds

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for part in (self._keep_lease, self._listen, self._watch_others, self._report_regularly):
                group.create_task(part())

    async def _keep_lease(self) -> None:
        while True:
            try:
                began = time.monotonic()
                for id in await self._store.renew(self._runner.attempts()):
                    log.warning("task %s is stopped: it was cancelled, or is another server's by now", id)
                    await self._stop(id)
                self._renewed = began
                await self._take_over()
            except StoreError as error:
                log.warning("the lease cannot be renewed: %s", error)
            await asyncio.sleep(self._store.lease_seconds / 3)

    async def _stop(self, id: str) -> None:
        await self._runner.stop(id)
        if task := self._tasks.find(id):
            self._told.pop(task, None)  # what this server told last may not have been heard

    async def _listen(self) -> None:
        while True:
            try:
                await self._store.listen(self._on_change)
            except StoreError as error:
                log.warning("%s", error)
            await asyncio.sleep(_LISTEN_AGAIN)

    def _on_change(self, change: Changed) -> None:
        self._wakeups.hear(change)
        if change.id is None:
            self._look.set()  # at all
        elif change.ended or not self._runner.has(change.id):
            self._changed.add(change.id)
            self._look.set()

    async def _watch_others(self) -> None:
        looked_at_all = 0.0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._look.wait()
            self._look.clear()
            ids, self._changed = self._changed, set()
            if not ids or time.monotonic() - looked_at_all > _LOOK_EVERY:
                ids |= {task.id for task in self._tasks.watched()}
                looked_at_all = time.monotonic()
            try:
                for id in ids:
                    await self._look_at(id)
            except StoreError as error:
                log.warning("how tasks of other servers go cannot be read: %s", error)
                self._changed |= ids
                await asyncio.sleep(_LISTEN_AGAIN)

    async def _look_at(self, id: str) -> None:
        """Raises StoreError."""
        if not self._runner.has(id) and self._tasks.find(id) is None:
            return
        row = await self._store.get(id)
        if self._runner.has(id):
            if row is not None and row.status != "cancelled":
                return  # how it goes and ends here, its runner says
            await self._stop(id)
        task = self._tasks.find(id)
        if task is None:
            return
        await self.catch_up(task)
        if row is None or row.ended:
            task.become(row.status if row else "expired")
            return
        if task.status != row.status:
            task.become(row.status)
        if row.progress:
            task.stages.update(row.progress.stages)
            task.waits_for_storage = row.progress.waits_for_storage
        task.changed()

    async def catch_up(self, task: Task) -> None:
        """Put into the task the words and turns that other servers have told. Raises StoreError."""
        told = self._told.get(task, _Told())
        untold = task.partial.chunks[told.chunks :]  # of an attempt that ended here
        news = [_decoder.decode(one) for one in await self._store.news(task.id, told.news)]
        task.partial.chunks += [one.words for one in news if one.words and one.words not in untold]
        for one in news:
            task.turns = one.turns or task.turns
        self._told[task] = _Told(told.news + len(news), len(task.partial.chunks), task.turns)

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_EVERY)
            try:
                await self.report()
            except StoreError as error:
                log.warning("how tasks go cannot be told: %s", error)

    async def report(self) -> None:
        """Tell the other servers what they do not know yet of the tasks that run here. Raises StoreError."""
        async with self._reporting:  # one after the other: news are numbered
            await self._report()

    async def _report(self) -> None:
        reports: list[Report] = []
        after: dict[Task, _Told] = {}
        for id, attempt in self._runner.attempts().items():
            if task := self._tasks.find(id):
                told = self._told.get(task, _Told())
                news = [News(words=tuple(words)) for words in task.partial_words[told.chunks :]]
                if task.turns is not None and task.turns is not told.turns:
                    news.append(News(turns=tuple(task.turns)))
                progress = TaskProgress(dict(task.stages), task.waits_for_storage)
                if news or progress != told.progress:
                    reports.append(Report(id, attempt, progress, told.news, [_encode(one) for one in news]))
                    after[task] = _Told(told.news + len(news), len(task.partial_words), task.turns, progress)
        if reports:
            await self._store.report(reports)
            self._told.update(after)
