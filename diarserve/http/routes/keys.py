"""What belongs to an access key. The keys themselves are made and revoked by `diarserve keys`."""

from __future__ import annotations

import logging
import re
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from diarserve.core.errors import Conflict, NotFound
from diarserve.http.context import GATE, LIVE, SERVICE
from diarserve.http.openapi.describe import Answer, describe
from diarserve.http.responses import json
from diarserve.service.erasure import erase
from diarserve.tasks.views import Count

log = logging.getLogger(__name__)
routes = web.RouteTableDef()

_ID = re.compile("[0-9a-f]{16}")


class ErasedData(Struct):
    key: Annotated[str, Meta(description="The key's id.")]
    tasks: Annotated[Count, Meta(description="Deleted, with all that was kept of them.")]
    voices: Annotated[Count, Meta(description="Stored ones, deleted.")]


@routes.delete("/api/v1/parallel/keys/{key}/data")
@describe(
    "Delete everything that belongs to a revoked access key: its tasks, transcripts and stored voices",
    {200: Answer("What there was.", ErasedData)},
    errors=[404, 409, 507],
    needs="admin",
)
async def delete_data(request: web.Request) -> web.Response:
    """`key` is the id that `diarserve keys list` shows. Tasks that have not ended are cancelled, live sessions end. A
    key that is in use, or whose tasks another key in use shares, is answered 409: revoke it first. Backups keep what
    they have."""
    id = request.match_info["key"]
    if not _ID.fullmatch(id):
        raise NotFound("A key's id is 16 hexadecimal digits: `diarserve keys list` shows it.")
    if names := request.app[GATE].keys_of(id):
        message = f"Keys in use have these tasks and voices: {', '.join(names)}. Revoke them first."
        raise Conflict(message, code="key_in_use", param="key")
    await request.app[LIVE].close(id)
    erased = await erase(request.app[SERVICE], id)
    log.info("the data of key %s is deleted: %d tasks, %d voices", id, erased.tasks, erased.voices)
    return json(ErasedData(id, erased.tasks, erased.voices))
