"""Finished documents as people have revised them: the models' document, and every change since."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from diarserve.core.errors import Conflict, InvalidRequest, NotFound
from diarserve.core.offload import offload
from diarserve.tasks.store.protocol import Store
from diarserve.transcript.changes import Change, effective
from diarserve.transcript.document import Document, decode
from diarserve.transcript.draft import revised

MOST = 1000  # revisions of a task: all of them are applied whenever the transcript is asked for

_LARGE_BODY = 256 * 1024  # bytes of JSON above which decoding leaves the event loop

_Changes = tuple[Change, ...]


async def document_at(store: Store, id: str, body: bytes, number: int | None = None) -> Document | bytes:
    """The models' document (`body`, JSON) as of that revision, or as of the newest; as it was given where nothing was
    changed. Raises NotFound."""
    kept = await store.revisions(id)
    if number is None:
        number = len(kept)
    if number > len(kept):
        raise NotFound(f"Task {id} has no revision {number}: the newest is {len(kept)}.")
    if number == 0:
        return body
    changes = [revision.changes for revision in kept[:number]]
    return await offload(len(body) > _LARGE_BODY, _apply, body, changes)


async def revise(store: Store, id: str, body: bytes, based_on: int, changes: Sequence[Change]) -> int:
    """Keep changes that were made to the document as of revision `based_on`; returns the number of the new revision.
    Raises Conflict where there is a newer one, and InvalidRequest for a change that cannot be made."""
    kept = [revision.changes for revision in await store.revisions(id)]
    if based_on == len(kept) >= MOST:
        raise InvalidRequest(f"This transcript was revised {MOST} times, as often as it may.", param="changes")
    if based_on == len(kept):
        encoded = msgspec.json.encode(changes)
        await offload(len(body) > _LARGE_BODY, _apply, body, [*kept, encoded])
        if await store.revise(id, based_on + 1, encoded):
            return based_on + 1
    raise Conflict("The transcript was revised meanwhile: get it again, and make your changes to that.")


def _apply(body: bytes, revisions: Sequence[bytes]) -> Document:
    changes = [msgspec.json.decode(one, type=_Changes) for one in revisions]
    return revised(decode(body), effective(changes), len(revisions))
