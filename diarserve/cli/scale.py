"""`diarserve scale`: how many workers a lane of a running server has."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import typer

from diarserve.cli.connect import asking
from diarserve.client.connection import Connection, decoded, quoted

_PATIENCE = 10.0  # seconds


def run(lane: str, workers: str, server: str | None, api_key: str | None, as_json: bool) -> int:
    """Raises Failure."""
    with asking():
        answer = asyncio.run(_ask(lane, workers, server, api_key))
    if as_json:
        typer.echo(json.dumps(answer))
        return 0
    scaling, up = answer["scaling"], sum(worker["pid"] is not None for worker in answer["workers"])
    least, most = scaling["min_workers"], scaling["max_workers"]
    bounds = f"always {most}" if least == most else f"between {least} and {most}"
    typer.echo(f"{lane}: {scaling['wanted']} wanted, {up} up, {bounds} workers")
    return 0


async def _ask(lane: str, workers: str, server: str | None, api_key: str | None) -> dict[str, Any]:
    connection = Connection(server, api_key, _PATIENCE, None)
    try:
        query = [("workers", workers)]
        return decoded(await connection.call("POST", f"/lanes/{quoted(lane)}/scale", query=query), dict[str, Any])
    finally:
        await connection.close()
