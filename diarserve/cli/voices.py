"""`diarserve voices`: the voices that a server keeps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import typer

from diarserve.cli.command import Failure
from diarserve.cli.connect import PATIENCE, asking
from diarserve.client import Client, StoredVoice


def add(server: str | None, api_key: str | None, name: str, files: Sequence[Path], as_json: bool) -> int:
    with asking(), Client(server, api_key=api_key, patience=PATIENCE) as client:
        voice = client.enrol_voice(name, list(files))
    _tell([voice], as_json)
    return 0


def show(server: str | None, api_key: str | None, as_json: bool) -> int:
    with asking(), Client(server, api_key=api_key, patience=PATIENCE) as client:
        voices = client.voices()
    _tell(voices, as_json)
    return 0


def delete(server: str | None, api_key: str | None, wanted: str) -> int:
    with asking(), Client(server, api_key=api_key, patience=PATIENCE) as client:
        found = [voice for voice in client.voices() if wanted in (voice.voice_id, voice.name)]
        if not found:
            raise Failure(f"There is no voice {wanted}.", hint="`diarserve voices list` tells which there are.")
        client.delete_voice(found[0].voice_id)
    typer.echo(f"The voice {found[0].name} ({found[0].voice_id}) is deleted.", err=True)
    return 0


def _tell(voices: Sequence[StoredVoice], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(voices), indent=2, ensure_ascii=False))
        return
    for voice in voices:
        samples = f"{len(voice.samples)} sample{'s' if len(voice.samples) != 1 else ''}"
        typer.echo(f"{voice.voice_id}  {voice.name:<20} {voice.seconds:.1f} s of speech in {samples}")
