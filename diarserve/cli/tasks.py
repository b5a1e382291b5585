"""`diarserve tasks` and `diarserve result`: what a server works on, and what it has made."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import typer

from diarserve.cli import targets
from diarserve.cli.connect import PATIENCE, asking
from diarserve.cli.progress import bars
from diarserve.cli.targets import Recording
from diarserve.client import AsyncClient, TaskStatus
from diarserve.core.types import Format, Status


def run(
    server: str | None,
    api_key: str | None,
    ids: Sequence[str],
    status: Status | None,
    limit: int,
    delete: bool,
    as_json: bool,
) -> int:
    """Raises Failure."""
    with asking():
        shown = asyncio.run(_tasks(AsyncClient(server, api_key=api_key, patience=PATIENCE), ids, status, limit, delete))
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(shown), indent=2))
    else:
        for task in shown:
            typer.echo(_line(task))
    return 0


async def _tasks(
    client: AsyncClient, ids: Sequence[str], status: Status | None, limit: int, delete: bool
) -> Sequence[TaskStatus]:
    async with client:
        if ids:
            return [await (client.delete(id) if delete else client.status(id)) for id in ids]
        found: list[TaskStatus] = []
        before: str | None = None
        while len(found) < limit:
            page = await client.tasks(status=status, limit=min(limit - len(found), 1000), before=before)
            found += page.tasks
            before = page.next
            if before is None:
                break
        return found


def _line(task: TaskStatus) -> str:
    created = (task.created_at or "")[:19].replace("T", " ")
    why = f"  {task.error}" if task.error else ""
    return f"{task.task_id}  {task.status:<10} {task.progress:>3.0f} %  {created:<19}  {task.filename}{why}"


def result(
    server: str | None,
    api_key: str | None,
    task: str,
    format: Format,
    output: Path | None,
    overwrite: bool,
    wait: bool,
) -> int:
    """Raises Failure, and UsageError for a file that may not be written over."""
    if output and not targets.without_those_that_exist(
        [Recording(Path(task), {format: output})], overwrite=overwrite, skip_existing=False
    ):
        return 0
    with asking():
        body = asyncio.run(_result(AsyncClient(server, api_key=api_key, patience=PATIENCE), task, format, wait))
    if output:
        targets.write(output, body)
    else:
        typer.echo(body, nl=False)
    return 0


async def _result(client: AsyncClient, task: str, format: Format, wait: bool) -> bytes:
    async with client:
        if wait:
            with bars() as drawn, drawn.bar(task) as bar:
                await client.wait(task, on_progress=lambda now: bar.advance(now.progress, now.stages))
        return targets.readable(await client.download(task, format), format)
