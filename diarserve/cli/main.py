"""The command line: serve, transcribe, doctor, keys. What a command needs is imported when it runs: help is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click

import diarserve
from diarserve.core.configuration import ConfigError
from diarserve.core.types import Channels, Diarizer, Format, Role
from diarserve.tasks.store.protocol import StoreError

_EXIT_CODES = """\b
Exit codes: 0 everything was done, 1 a recording was not transcribed or something is missing,
2 the command or the configuration is wrong, or the server cannot start."""

_config = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A TOML file, laid over the embedded default (config/default.toml). The environment goes before it: "
    "[whisper] beam is DIARSERVE_WHISPER_BEAM.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXIT_CODES)
@_config
@click.version_option(diarserve.__version__, prog_name="diarserve", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, config: Path | None) -> None:
    """Who said what, over HTTP."""
    context.obj = config


@cli.group()
def keys() -> None:
    """Access keys: who may ask the server, and for what."""


def _command(function: Callable[..., int], group: click.Group = cli) -> click.Command:
    """A command with --config, which may also stand before the command's name."""

    @click.pass_context
    def run(context: click.Context, /, config: Path | None, **arguments: Any) -> None:
        context.exit(function(config=config or context.obj, **arguments))

    # The options that decorators have put on the function.
    run.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    return group.command(name=function.__name__.rstrip("_"), help=function.__doc__, epilog=_EXIT_CODES)(_config(run))


@_command
@click.option("--host", help="The address to listen on. [default: 127.0.0.1]")
@click.option("--port", type=int, help="0: any that is free. [default: 8000]")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where uploads and the task store lie. [default: data]",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[default: info]")
def serve(**arguments: Any) -> int:
    """Run the HTTP server, until SIGTERM or Ctrl-C."""
    from diarserve.cli import serve

    return serve.run(**arguments)


@_command
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A file, or a directory for several recordings: call.wav becomes call.srt there. [default: standard output]",
)
@click.option("--format", type=click.Choice(get_args(Format)), default="text", show_default=True)
@click.option("--language", help="Of the recordings, as a code such as en. [default: detected]")
@click.option("--whisper-model", help="[default: the configured one]")
@click.option("--num-speakers", type=int, help="How many people speak, if it is known.")
@click.option("--min-speakers", type=int)
@click.option("--max-speakers", type=int)
@click.option("--diarizer", type=click.Choice(get_args(Diarizer)), help="[default: chosen among the configured ones]")
@click.option("--channels", type=click.Choice(get_args(Channels)), help="separate: one speaker in each. [default: mix]")
@click.option("--source-separation", is_flag=True, help="Free the voices of music and noise first.")
@click.option("--enhanced-alignment", is_flag=True, help="Align words by forced alignment, where it is configured.")
@click.option(
    "--known-speaker",
    multiple=True,
    metavar="NAME=FILE",
    help="What a speaker is called, and a recording with 2 to 10 s of the voice. Up to four.",
)
@click.option("--speaker-embeddings", is_flag=True, help="Add the voice of each speaker as a vector, in JSON.")
@click.option("--prompt", help="Text as if it came before: for its style and spelling.")
@click.option("--hotwords", help="Words to expect.")
@click.option("--beam-size", type=int, help="[default: the configured one]")
@click.option("--temperature", type=float, help="Above 0, words are drawn by chance.")
def transcribe(**arguments: Any) -> int:
    """Transcribe recordings without a server. - is standard input."""
    from diarserve.cli import transcribe

    return transcribe.run(**arguments)


@_command
def doctor(config: Path | None) -> int:
    """Tell whether this machine has what the configuration needs.

    That is packages, the weights in them, files that the configuration names, and devices.
    """
    from diarserve.cli import doctor

    return doctor.report(config)


_data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The server's, where keys.json lies, unless [access] keys_file says otherwise. [default: data]",
)
_key_command = partial(_command, group=keys)


@_key_command
@click.argument("name")
@click.option("--role", type=click.Choice(get_args(Role)), default="submit", show_default=True)
@click.option("--tasks-of", default="", metavar="NAME", help="Share the tasks of this key. [default: tasks of its own]")
@click.option("--requests-per-minute", type=click.IntRange(1))
@click.option("--concurrent", type=click.IntRange(1), help="Requests at a time.")
@click.option("--audio-hours-per-day", type=click.FloatRange(0, min_open=True))
@_data_dir
def add(**arguments: Any) -> int:
    """Make a key, and show it this once.

    submit sends recordings and has its own tasks; read only looks at tasks, those of the key that --tasks-of names;
    metrics reads /metrics and /stats; admin may everything, with everybody's tasks.
    """
    from diarserve.cli import keys

    return keys.add(**arguments)


@_key_command
@_data_dir
def list_(**arguments: Any) -> int:
    """Tell which keys there are."""
    from diarserve.cli import keys

    return keys.show(**arguments)


@_key_command
@click.argument("name")
@_data_dir
def revoke(**arguments: Any) -> int:
    """Let a key, by its name or id, in no longer."""
    from diarserve.cli import keys

    return keys.revoke(**arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of a command line, that of this process by default."""
    try:
        return int(cli.main(arguments, prog_name="diarserve", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:  # Ctrl-C
        return 1
    except (ConfigError, StoreError, OSError) as error:  # OSError: a port that is taken, a full disk
        print(f"diarserve: {error}", file=sys.stderr)
        return 2
