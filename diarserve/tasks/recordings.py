"""Where the recordings of durable tasks lie until they have ended: on this machine's disk, or where any server of
several finds them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from diarserve.core.errors import NotReady, ServiceError
from diarserve.tasks.spool import Spool, sent
from diarserve.tasks.store.protocol import SharedStore, StoreError, StoreUnreachable

if TYPE_CHECKING:  # what imports obstore comes from whoever makes SharedRecordings
    from diarserve.tasks.store.objects import Objects

log = logging.getLogger(__name__)

_UNUSED_AFTER = timedelta(hours=2)  # far longer than a recording takes from its upload to its row
_LOOK_EVERY = 3600.0  # seconds
_AT_ONCE = 1000  # objects


class Recordings(Protocol):
    async def keep(self, folder: Path) -> None:
        """What was sent, from an incoming folder: it outlives a crash. Raises OSError and StoreError."""

    async def fetch(self, id: str) -> None:
        """Have it in the spool's durable folder of the task, for this machine's workers. Raises ServiceError, NotReady
        where it may work later, and OSError."""

    def discard(self, id: str) -> None:
        """This server does no more with the task: nothing is left but what another needs."""

    async def remove(self, id: str) -> None:
        """The task has ended. What cannot be removed now is removed by `clean`."""

    def sweep(self, unfinished: Collection[str]) -> None:
        """At the start: remove what an earlier server left that belongs to none of these tasks."""

    async def clean(self) -> None:
        """Remove what a crash has left."""


class LocalRecordings:
    """In the spool's durable folders: for one server."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    async def keep(self, folder: Path) -> None:
        await asyncio.to_thread(self._spool.make_durable, folder)

    async def fetch(self, id: str) -> None:
        pass

    def discard(self, id: str) -> None:
        pass

    async def remove(self, id: str) -> None:
        self._spool.remove(self._spool.durable / id)

    def sweep(self, unfinished: Collection[str]) -> None:
        self._spool.sweep(unfinished)

    async def clean(self) -> None:
        self._spool.clear_again()


class SharedRecordings:
    """As objects, copied into the spool of the server that runs the task, for as long as it does."""

    def __init__(self, spool: Spool, objects: Objects, store: SharedStore) -> None:
        self._spool = spool
        self._objects = objects
        self._store = store
        self._look_at = time.monotonic() + random.uniform(0, _LOOK_EVERY)  # not all servers at once

    async def keep(self, folder: Path) -> None:
        for file in await asyncio.to_thread(sent, folder):
            await self._objects.put_file(_key(folder.name) + file.name, file)

    async def fetch(self, id: str) -> None:
        folder = self._spool.durable / id
        folder.mkdir(0o700, exist_ok=True)
        try:
            found = [one async for one in self._objects.under(_key(id))]
            if not found:
                raise FileNotFoundError
            for one in found:
                await self._objects.fetch(one, folder / one.key.rpartition("/")[2], self._spool.disk.reserved)
        except FileNotFoundError as error:  # nobody asks for a task that was cancelled meanwhile
            raise ServiceError("The recording is not in the object store any more.") from error
        except StoreUnreachable as error:
            raise NotReady(str(error)) from error

    def discard(self, id: str) -> None:
        self._spool.remove(self._spool.durable / id)

    async def remove(self, id: str) -> None:
        try:
            await self._objects.remove(_key(id))
        except StoreError as error:
            log.warning("the recording of task %s stays in the object store for now: %s", id, error)

    def sweep(self, unfinished: Collection[str]) -> None:
        self._spool.sweep(())  # copies, all of them

    async def clean(self) -> None:
        self._spool.clear_again()
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_EVERY
            await self.remove_unused(datetime.now(UTC) - _UNUSED_AFTER)

    async def remove_unused(self, older_than: datetime) -> None:
        """Objects from before that time that no task needs: its row was never written, or has expired, or has ended and
        names another document. Raises StoreError."""
        old: list[str] = []
        async for one in self._objects.under("tasks/"):
            if one.changed < older_than:
                old.append(one.key)
            if len(old) >= _AT_ONCE:
                await self._remove_unneeded(old)
                old = []
        await self._remove_unneeded(old)

    async def _remove_unneeded(self, keys: list[str]) -> None:
        needed = await self._store.needed_objects({_id(key) for key in keys})
        for key in keys:
            if _id(key) not in needed or not key.startswith(needed[_id(key)]):
                log.info("%s is removed: no task needs it", key)
                await self._objects.remove(key)


def _id(key: str) -> str:
    return key.split("/")[1]


def _key(id: str) -> str:
    """The folder of what was sent with a task."""
    return f"tasks/{id}/sent/"
