"""Finished documents as people have revised them: the models' document, and every change since."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from diarserve.core.errors import Conflict, InvalidRequest, NotFound
from diarserve.tasks.store.protocol import Store
from diarserve.transcript.changes import Change, Edit, Rename, effective
from diarserve.transcript.document import Document, decode
from diarserve.transcript.draft import revised

# All revisions of a task are applied whenever its transcript is asked for.
MOST = 1000
MOST_BYTES = 4 * 2**20  # of all together, as JSON
MOST_WORDS = 1_000_000  # that their changes name, counted as often as they are named: 2 s of work

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
    return await asyncio.to_thread(_apply, body, changes)


async def revise(store: Store, id: str, body: bytes, based_on: int, changes: Sequence[Change]) -> int:
    """Keep changes that were made to the document as of revision `based_on`; returns the number of the new revision.
    Raises Conflict where there is a newer one, and InvalidRequest for a change that cannot be made."""
    kept = [revision.changes for revision in await store.revisions(id)]
    if based_on == len(kept) >= MOST:
        raise InvalidRequest(f"This transcript was revised {MOST} times, as often as it may.", param="changes")
    if based_on == len(kept):
        encoded = msgspec.json.encode(changes)
        if sum(map(len, kept)) + len(encoded) > MOST_BYTES:
            raise InvalidRequest("The changes of this transcript are as many as there may be.", param="changes")
        await asyncio.to_thread(_apply, body, [*kept, encoded])
        if await store.revise(id, based_on + 1, encoded):
            return based_on + 1
    raise Conflict("The transcript was revised meanwhile: get it again, and make your changes to that.")


def _apply(body: bytes, revisions: Sequence[bytes]) -> Document:
    """Raises InvalidRequest. It may take seconds."""
    edits = effective([msgspec.json.decode(one, type=_Changes) for one in revisions])
    if _words(edits) > MOST_WORDS:
        raise InvalidRequest(f"The changes name more than {MOST_WORDS} words.", param="changes")
    return revised(decode(body), edits, len(revisions))


def _words(edits: Iterable[Edit]) -> int:
    return sum(edit.past - edit.first for edit in edits if not isinstance(edit, Rename))
