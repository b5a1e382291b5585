from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diarserve.cli.command import ApiKey, Config, ConfiguredServer

_DataDir = Annotated[Path | None, typer.Option(file_okay=False, help="The server's. [default: data]")]


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="A tar archive to write.")],
    config: Config = None,
    server: ConfiguredServer = None,
    api_key: ApiKey = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Read the data directory, which no server may use meanwhile.")
    ] = False,
    data_dir: _DataDir = None,
) -> int:
    """Have the server make a backup while it works: tasks, documents, recordings of unfinished tasks, voices, keys.

    It holds what people said: keep it where nobody else reads it. The key of stored voices is not in it.
    """
    from diarserve.cli import maintenance

    return maintenance.backup(config, file, server, api_key, offline=offline, data_dir=data_dir)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)],
    config: Config = None,
    data_dir: _DataDir = None,
    replace: Annotated[bool, typer.Option("--replace", help="In place of the tasks that are there.")] = False,
) -> int:
    """Put a backup into a data directory that no server uses. As the server's user: the files will be this user's."""
    from diarserve.cli import maintenance

    return maintenance.restore(config, file, data_dir, replace=replace)


def drain(
    config: Config = None,
    server: ConfiguredServer = None,
    api_key: ApiKey = None,
    end: Annotated[bool, typer.Option("--end", help="Take work again.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds to wait, then exit code 1. [default: without end]")
    ] = None,
) -> int:
    """Have the server take no more work, and wait until what is under way has ended.

    Queued tasks stay queued, for the next server on its data directory. Then stop it, or --end the drain.
    """
    from diarserve.cli import maintenance

    return maintenance.drain(config, server, api_key, end=end, timeout=timeout)
