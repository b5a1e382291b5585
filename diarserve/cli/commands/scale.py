from __future__ import annotations

from typing import Annotated

import typer

from diarserve.cli.command import AsJson


def scale(
    lane: Annotated[str, typer.Argument(metavar="LANE", help="decode, whisper, embedded, ...: see /readyz.")],
    workers: Annotated[
        str,
        typer.Argument(
            metavar="WORKERS",
            help="3: so many. 1-4: scaled between these. 0: none until there is a job. auto: as configured.",
        ),
    ],
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="[default: DIARSERVE_URL, else http://127.0.0.1:8000]")
    ] = None,
    api_key: Annotated[str | None, typer.Option(help="Of the role admin. [default: DIARSERVE_API_KEY]")] = None,
    as_json: AsJson = False,
) -> int:
    """Say how many workers a lane of a running server has, until that server ends."""
    from diarserve.cli import scale

    return scale.run(lane, workers, server, api_key, as_json)
