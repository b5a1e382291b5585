"""What all commands share: the --config option, exit codes, and errors that end a command."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import typer

# 130 is what shells have for it: 128 + the number of the signal.
EXIT_CODES = """\b
Exit codes:
  0    everything was done
  1    a recording was not transcribed, or something is missing
  2    the command or the configuration is wrong, or the server cannot start
  3    the server that --server names cannot be reached, or does not let this key in
  130  Ctrl-C"""

STDIN = Path("-")


class Url(str):
    """A recording that the server is to fetch."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return PurePosixPath(unquote(urlsplit(self).path)).name or "recording"

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem


Source = Path | Url  # STDIN among them


class UsageError(typer.TyperException):
    """The command line is wrong: exit code 2.

    >>> raise UsageError("Standard input (-) can be read once.")
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "--help shows what the command takes.") -> None:
        super().__init__(message)
        self.hint = hint


class Failure(typer.TyperException):
    """A command ends with `code`. `hint` says what to do, on a line of its own.

    >>> raise Failure("There is no task 4f1c.", hint="`diarserve tasks` lists them.")
    """

    def __init__(self, message: str, *, hint: str = "", code: int = 1) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = code


def complain(error: Exception, *, of: object = "") -> None:
    """Say on standard error what is wrong, with its hint. of: the recording or the like that it is about."""
    about = f"{of}: " if of else ""
    typer.echo(f"diarserve: {about}{error}", err=True)
    if hint := getattr(error, "hint", ""):
        typer.echo(f"  {hint}", err=True)


def recordings(files: list[Path] | None) -> list[Path] | None:
    """Files that are there, or - for standard input, which typer's `exists` would look for as a file."""
    for file in files or ():
        if file.is_dir():
            raise typer.BadParameter(f"'{file}' is a directory.")
        if not file.exists() and file != STDIN:
            raise typer.BadParameter(f"'{file}' does not exist.")
    return files


def sources(given: list[str]) -> list[Source]:
    """Recordings that are named by a path, by - or by a URL. Raises typer.BadParameter where there is no such file."""
    made = [Url(each) if each.startswith(("http://", "https://")) else Path(each) for each in given]
    recordings([each for each in made if isinstance(each, Path)])
    return made


def above_zero(value: float | None) -> float | None:
    """Above 0, where typer's `min` would let 0 in."""
    if value is not None and value <= 0:
        raise typer.BadParameter(f"{value:g} is not above 0.")
    return value


def address(url: str | None) -> str | None:
    if url and not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url} is no address such as http://127.0.0.1:8000.")
    return url


def _given_before(context: typer.Context, config: Path | None) -> Path | None:
    return config or context.obj


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        callback=_given_before,  # it may also stand before the command's name
        help="A TOML file, laid over the embedded default (config/default.toml). The environment goes before it: "
        "[whisper] beam is DIARSERVE_WHISPER_BEAM.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON value on standard output, for scripts.")]


ApiKey = Annotated[
    str | None,
    typer.Option(
        envvar="DIARSERVE_API_KEY",
        metavar="KEY",
        help="The server's access key. Others can see a command line: rather set the variable.",
    ),
]


def server_option(help: str) -> Any:
    """--server of a command, which another default makes another help."""
    return typer.Option(envvar="DIARSERVE_URL", callback=address, metavar="URL", help=help)


Server = Annotated[
    str | None,
    server_option("The server's address, with the path before /api where it has one. [default: http://127.0.0.1:8000]"),
]
ConfiguredServer = Annotated[str | None, server_option("The server's address. [default: the one that is configured]")]
