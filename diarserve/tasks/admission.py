"""Accepting durable tasks: recordings and rows are on the disk before the client hears that they are accepted."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from diarserve.core.errors import Busy, NotReady, StorageFull, Unprocessable
from diarserve.core.options import Options
from diarserve.core.types import Priority
from diarserve.observe import tracing
from diarserve.tasks.completion import run_to_completion
from diarserve.tasks.recordings import Recordings
from diarserve.tasks.spool import sent
from diarserve.tasks.store.protocol import NewTask, QueueFull, Store, StoreError, StoreUnreachable, TaskRow

log = logging.getLogger(__name__)


class Admission:
    """max_queued: tasks that may wait; wait_estimate: seconds until it is worth to ask again."""

    def __init__(
        self, store: Store, recordings: Recordings, max_queued: int, wait_estimate: Callable[[], float]
    ) -> None:
        self._store = store
        self._recordings = recordings
        self._max_queued = max_queued
        self._wait_estimate = wait_estimate

    async def require_room(self, tasks: int = 1) -> None:
        """Raises Busy when the queue has no room for so many."""
        if (await self._store.counts())["queued"] + tasks > self._max_queued:
            raise self._busy()

    def _busy(self) -> Busy:
        return Busy("The queue is full; try again later.", retry_after=self._wait_estimate())

    async def submit(
        self,
        recordings: Sequence[tuple[Path, str]],
        options: Options,
        priority: Priority,
        *,
        batch_id: str | None,
        key: str | None,
        owner: str,
    ) -> list[TaskRow]:
        new = [
            NewTask(
                folder.name,
                filename,
                options.model_dump(mode="json", exclude_defaults=True),
                priority,
                batch_id,
                position,
                str(options.callback_url) if options.callback_url else None,
                owner,
                traceparent=tracing.traceparent(),
            )
            for position, (folder, filename) in enumerate(recordings)
        ]
        return await run_to_completion(self._accept([folder for folder, _ in recordings], new, key))

    async def _accept(self, folders: Sequence[Path], new: Sequence[NewTask], key: str | None) -> list[TaskRow]:
        created = uncertain = False
        try:
            if key is not None:
                digests = await asyncio.to_thread(_digests, folders)
                new = [replace(task, upload_sha256=digest) for task, digest in zip(new, digests, strict=True)]
            # Recordings first: a row must never be without one.
            for folder in folders:
                await self._recordings.keep(folder)
            rows, created = await self._store.add(new, key, max_queued=self._max_queued)
        except QueueFull:
            raise self._busy() from None
        except StoreUnreachable as error:
            uncertain = True  # the rows may be there, and need their recordings; without rows these go by age
            log.warning("a task could not be accepted: %s", error)
            raise NotReady("The task store cannot be reached; try again later.", retry_after=5) from error
        except (StoreError, OSError) as error:
            log.exception("a task could not be accepted")
            raise StorageFull("There is no room left for tasks; try again later.", retry_after=60) from error
        finally:
            if not created and not uncertain:
                for folder in folders:
                    await self._recordings.remove(folder.name)
        if not created and not (len(rows) == len(new) and all(map(_is_same_request, rows, new))):
            message = "This Idempotency-Key was used before, for something else: send another key."
            raise Unprocessable(message, code="idempotency_key_reused")
        return rows


def _digests(folders: Sequence[Path]) -> list[bytes]:
    """The SHA-256 of each upload, and of the references with it where there are such. A GiB takes 0.7 s of CPU time, so
    only those with an Idempotency-Key are read."""
    return [_digest(folder) for folder in folders]


def _digest(folder: Path) -> bytes:
    digests = []
    for path in sent(folder):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").digest())
    return digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()


def _is_same_request(row: TaskRow, new: NewTask) -> bool:
    """Whether two calls with one Idempotency-Key ask for the same. Rows of an earlier version have no digest."""
    same_upload = row.upload_sha256 in (None, new.upload_sha256)
    return same_upload and _request(row) == _request(new)


def _request(task: NewTask | TaskRow) -> tuple[object, ...]:
    return task.filename, task.options, task.batch_id is None
