"""`diarserve listen`: words with speakers while somebody talks, from a server's live session."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import Any, cast

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from diarserve.cli import audio_source
from diarserve.cli.command import STDIN
from diarserve.cli.connect import PATIENCE, asking
from diarserve.cli.conversation import Conversation, Line
from diarserve.cli.watch import stopped_by_signal
from diarserve.client import AsyncClient, Done, LiveEvent, LiveOptions, Ready
from diarserve.transcript.formats import clock


def run(
    server: str | None,
    api_key: str | None,
    file: Path | None,
    device: str | None,
    speed: float,
    as_json: bool,
    options: Mapping[str, Any],
) -> int:
    """Until the audio ends or Ctrl-C; then what was heard is finished. Raises Failure."""
    given = cast(LiveOptions, {name: value for name, value in options.items() if value is not None})
    with asking():
        return asyncio.run(
            _listen(file, device, AsyncClient(server, api_key=api_key, patience=PATIENCE), speed, as_json, given)
        )


async def _listen(
    file: Path | None, device: str | None, client: AsyncClient, speed: float, as_json: bool, options: LiveOptions
) -> int:
    audio: AsyncIterator[bytes]
    if file is None:
        audio = audio_source.microphone(device)
    elif file == STDIN:
        audio = audio_source.in_thread(audio_source.pipe(audio_source.standard_input()))
    else:
        audio = audio_source.file(file, speed)
    async with client:
        with stopped_by_signal() as stopped:
            events = client.stream(audio_source.until(stopped, audio), **options)
            async with aclosing(events):
                await (_tell(events) if as_json else _show(events, keep=options.get("keep", True)))
    return 0


async def _tell(events: AsyncIterator[LiveEvent]) -> None:
    """Each event as a line of JSON."""
    async for event in events:
        told: dict[str, Any] = {"type": _name(event), **msgspec.to_builtins(event)}
        typer.echo(json.dumps(told, ensure_ascii=False))
        sys.stdout.flush()


def _name(event: LiveEvent) -> str:
    """
    >>> _name(Done)
    'done'
    """
    name = type(event).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


async def _show(events: AsyncIterator[LiveEvent], *, keep: bool) -> None:
    """On a terminal, the utterance that goes on stands below the lines that are done with, and changes in place."""
    console = Console(soft_wrap=True)
    conversation, task_id = Conversation(), ""
    live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
    with live or nullcontext():
        async for event in events:
            if isinstance(event, Ready):
                task_id = event.task_id
            for line in conversation.finish() if isinstance(event, Done) else conversation.hear(event):
                console.print(_text(line, conversation))
            if live:
                current = [_text(line, conversation) for line in conversation.current()]
                live.update(Text("\n").join(current), refresh=True)
    if keep:
        typer.echo(f"The transcript of the whole: diarserve result {task_id}", err=True)


def _text(line: Line, conversation: Conversation) -> Text:
    style = conversation.colour(line.speaker) if line.speaker != "UNKNOWN" else ""
    return Text.assemble(
        (f"[{clock(line.start)}] ", "dim"),
        (f"{line.speaker}: ", f"bold {style}"),
        (line.text, f"dim {style}" if line.interim else style),
    )
