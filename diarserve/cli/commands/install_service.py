from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diarserve.cli.command import Config


def install_service(
    config: Config = None,
    folder: Annotated[Path, typer.Option(file_okay=False, help="Where units lie.")] = Path("/etc/systemd/system"),
    user: Annotated[str, typer.Option(help="That the service runs as.")] = "diarserve",
    show: Annotated[bool, typer.Option("--print", help="Print the unit, and write nothing.")] = False,
) -> int:
    """Write the systemd unit of this installation: Type=notify, watchdog, hardening, data in /var/lib/diarserve."""
    from diarserve.cli import install_service

    return install_service.install(config, folder, user, show=show)
