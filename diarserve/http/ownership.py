"""The task that a request names, if it is the client's."""

from __future__ import annotations

from aiohttp import web

from diarserve.core.errors import NotFound
from diarserve.http.context import SERVICE
from diarserve.http.guard import client
from diarserve.tasks.store.protocol import TaskRow


async def own_task(request: web.Request) -> TaskRow:
    """Raises NotFound: for another's as for one that is not there, so that nobody learns which there are."""
    id = request.match_info["task_id"]
    row = await request.app[SERVICE].store.get(id)
    if row is None or not client(request).may_see(row.owner):
        raise NotFound(f"There is no task {id[:64]}.")
    return row
