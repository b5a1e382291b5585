from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diarserve.cli.command import ApiKey, AsJson, Config, ConfiguredServer, above_zero
from diarserve.core.types import Role

HELP = "Access keys: who may ask the server, and for what."

_DataDir = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        help="The server's, where keys.json lies, unless [access] keys_file says otherwise. [default: data]",
    ),
]


def add(
    name: Annotated[str, typer.Argument()],
    config: Config = None,
    role: Role = "submit",
    tasks_of: Annotated[
        str, typer.Option(metavar="NAME", help="Share the tasks of this key. [default: tasks of its own]")
    ] = "",
    requests_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Requests at a time.")] = None,
    audio_hours_per_day: Annotated[float | None, typer.Option(callback=above_zero)] = None,
    data_dir: _DataDir = None,
) -> int:
    """Make a key, and show it this once.

    submit sends recordings and has its own tasks; read only looks at tasks, those of the key that --tasks-of names;
    metrics reads /metrics and /stats; admin may everything, with everybody's tasks.
    """
    from diarserve.cli import keys

    return keys.add(
        config,
        data_dir,
        name,
        role,
        tasks_of=tasks_of,
        requests_per_minute=requests_per_minute,
        concurrent=concurrent,
        audio_hours_per_day=audio_hours_per_day,
    )


def list_(config: Config = None, data_dir: _DataDir = None, as_json: AsJson = False) -> int:
    """Tell which keys there are."""
    from diarserve.cli import keys

    return keys.show(config, data_dir, as_json)


def revoke(
    name: Annotated[str, typer.Argument()],
    config: Config = None,
    data_dir: _DataDir = None,
    delete_data: Annotated[
        bool,
        typer.Option("--delete-data", help="And have the server delete its tasks, transcripts and stored voices."),
    ] = False,
    server: ConfiguredServer = None,
    api_key: ApiKey = None,
) -> int:
    """Let a key, by its name or id, in no longer.

    Its tasks stay until they expire, and its stored voices until an administrator deletes them. --delete-data deletes
    both, of a key that was revoked before too; --server and --api-key (of the role admin) are for that.
    """
    from diarserve.cli import keys

    if delete_data:
        return keys.revoke_and_delete(config, data_dir, name, server, api_key)
    return keys.revoke(config, data_dir, name)
