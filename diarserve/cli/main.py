"""The command line. `diarserve --install-completion` has the shell complete it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

import diarserve
from diarserve.cli.command import EXIT_CODES, Config, complain
from diarserve.cli.commands import (
    doctor,
    health,
    install_service,
    keys,
    listen,
    maintenance,
    scale,
    serve,
    tasks,
    transcribe,
    voices,
)
from diarserve.core.configuration import ConfigError
from diarserve.tasks.store.protocol import StoreError

# A new command is a function in a module of diarserve/cli/commands, named here: parameters annotated as typer has it, a
# docstring for its help, the exit code as its result. What it needs is imported inside, so that help is quick.
_COMMANDS: tuple[Callable[..., int], ...] = (
    serve.serve,
    transcribe.transcribe,
    listen.listen,
    tasks.tasks,
    tasks.result,
    doctor.doctor,
    install_service.install_service,
    health.health,
    maintenance.backup,
    maintenance.restore,
    maintenance.drain,
    scale.scale,
)
_GROUPS: dict[str, tuple[str, tuple[Callable[..., int], ...]]] = {
    "keys": (keys.HELP, (keys.add, keys.list_, keys.revoke)),
    "voices": (voices.HELP, (voices.add, voices.list_, voices.delete)),
}

_HELP: dict[str, Any] = {
    "context_settings": {"help_option_names": ["-h", "--help"]},
    "rich_markup_mode": None,
    "epilog": EXIT_CODES,
}


def _app() -> typer.Typer:
    app = typer.Typer(name="diarserve", no_args_is_help=True, **_HELP)
    app.callback()(_root)
    for name, (text, commands) in _GROUPS.items():
        group = typer.Typer(name=name, help=text, no_args_is_help=True, **_HELP)
        for command in commands:
            group.command(command.__name__.rstrip("_").replace("_", "-"), epilog=EXIT_CODES)(command)
        app.add_typer(group)
    for command in _COMMANDS:
        app.command(command.__name__.rstrip("_").replace("_", "-"), epilog=EXIT_CODES)(command)
    return app


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"diarserve {diarserve.__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    config: Config = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Who said what, over HTTP."""
    context.obj = config


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of a command line, that of this process by default."""
    command = typer.main.get_command(_app())
    try:
        return int(command.main(arguments, prog_name="diarserve", standalone_mode=False) or 0)
    except typer.TyperException as error:
        show = getattr(error, "show", None)  # typer's own errors show the command's usage too
        show() if show else complain(error)
        return error.exit_code
    except typer.Abort:
        return 1
    except (ConfigError, StoreError, OSError) as error:  # OSError: a port that is taken, a full disk
        complain(error)
        return 2
