from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from diarserve.cli.command import Config


def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="0: any that is free. [default: 8000]")] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Where uploads and the task store lie. [default: data]"),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, typer.Option(help="[default: info]")
    ] = None,
) -> int:
    """Run the HTTP server, until SIGTERM or Ctrl-C."""
    from diarserve.cli import serve

    return serve.run(config, host, port, data_dir, log_level)
