from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diarserve.cli.command import ApiKey, Server, above_zero, recordings


def listen(
    file: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", callback=recordings, help="Without it, a microphone is heard."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="The microphone, by its number or a part of its name. [default: the system's]")
    ] = None,
    server: Server = None,
    api_key: ApiKey = None,
    speed: Annotated[
        float, typer.Option(callback=above_zero, help="Of a recording: 2 is twice as fast as it sounds.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Each event as a line of JSON, for scripts.")] = False,
    no_keep: Annotated[bool, typer.Option("--no-keep", help="Have the server forget the transcript.")] = False,
    language: Annotated[str | None, typer.Option(help="That is spoken, as a code such as en.")] = None,
    whisper_model: Annotated[str | None, typer.Option(help="[default: the server's]")] = None,
    num_speakers: Annotated[int | None, typer.Option(help="How many people speak, if it is known.")] = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    prompt: Annotated[str | None, typer.Option(help="Text as if it came before: for its style and spelling.")] = None,
    hotwords: Annotated[str | None, typer.Option(help="Words to expect.")] = None,
) -> int:
    """Show who says what, while they say it. Needs a server.

    FILE is a recording, which is played at its own speed, or - for standard input: a recording, or 16-bit samples,
    mono, 16 kHz. Ctrl-C ends the listening; what was heard is finished.
    """
    from diarserve.cli import listen
    from diarserve.cli.command import UsageError

    if len(file or ()) > 1:
        raise UsageError("One recording at a time.")
    if file and device is not None:
        raise UsageError("FILE and --device are two sources of sound.")
    options = {
        "keep": not no_keep,
        "language": language,
        "whisper_model": whisper_model,
        "num_speakers": num_speakers,
        "min_speakers": min_speakers,
        "max_speakers": max_speakers,
        "prompt": prompt,
        "hotwords": hotwords,
    }
    return listen.run(server, api_key, file[0] if file else None, device, speed, as_json, options)
