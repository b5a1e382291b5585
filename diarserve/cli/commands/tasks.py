from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diarserve.cli.command import ApiKey, AsJson, Server
from diarserve.core.types import Format, Status


def tasks(
    ids: Annotated[list[str] | None, typer.Argument(metavar="TASK")] = None,
    server: Server = None,
    api_key: ApiKey = None,
    status: Annotated[Status | None, typer.Option(help="Only those.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete these tasks with their transcripts; cancel what is unfinished.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Tell how the server's tasks go: the newest, or those that are named."""
    from diarserve.cli import tasks

    return tasks.run(server, api_key, ids or [], status, limit, delete, as_json)


def result(
    task: Annotated[str, typer.Argument(metavar="TASK")],
    server: Server = None,
    api_key: ApiKey = None,
    format: Format = "text",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", dir_okay=False, help="A file. [default: standard output]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over the file. [default: ask]")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until the task has ended.")] = False,
) -> int:
    """Fetch the transcript of one of the server's tasks."""
    from diarserve.cli import tasks

    return tasks.result(server, api_key, task, format, output, overwrite, wait)
