from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diarserve.cli.command import ApiKey, AsJson, Server, recordings

HELP = "Voices that a server keeps: whom transcripts call by name. Needs [voices] on the server."


def add(
    name: Annotated[str, typer.Argument(help="What transcripts call the speaker.")],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES", callback=recordings, help="In which only this person speaks.")
    ],
    server: Server = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> int:
    """Keep a voice, from one or more recordings of it."""
    from diarserve.cli import voices

    return voices.add(server, api_key, name, files, as_json)


def list_(server: Server = None, api_key: ApiKey = None, as_json: AsJson = False) -> int:
    """Tell which voices are kept."""
    from diarserve.cli import voices

    return voices.show(server, api_key, as_json)


def delete(
    voice: Annotated[str, typer.Argument(help="Its name or id.")],
    server: Server = None,
    api_key: ApiKey = None,
) -> int:
    """Forget a voice: nothing of it stays."""
    from diarserve.cli import voices

    return voices.delete(server, api_key, voice)
