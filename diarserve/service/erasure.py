"""Everything that is kept of one owner, deleted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from diarserve.service.service import Service

_TOGETHER = 100  # deletions share a checkpoint of the store


@dataclass(frozen=True, slots=True)
class Erased:
    tasks: int
    voices: int


async def erase(service: Service, owner: str) -> Erased:
    """Delete the owner's tasks, those that have not ended too, and stored voices. Nothing of them stays in the data
    directory. Nobody may submit for that owner meanwhile. Raises StoreError."""
    voices = service.voices.delete_all(owner)
    deleted: set[str] = set()
    while rows := await service.store.page(owner=owner, limit=_TOGETHER):
        # One that has not ended is cancelled now, and deleted in the next turn.
        await asyncio.gather(*(service.backlog.delete(row.id) for row in rows))
        deleted.update(row.id for row in rows)
    return Erased(len(deleted), voices)
