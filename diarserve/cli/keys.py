"""`diarserve keys`: the access keys that the server lets in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from msgspec import Struct

from diarserve.access import key_file
from diarserve.access.keys import id_of, live
from diarserve.cli.addresses import own_url
from diarserve.cli.connect import PATIENCE, asking
from diarserve.client.connection import Connection
from diarserve.core import configuration
from diarserve.core.settings import AccessKey
from diarserve.core.types import Role


def add(config: Path | None, data_dir: Path | None, name: str, role: Role, **more: Any) -> int:
    """Prints the key alone on standard output, and what to do with it on the other one. Raises ConfigError."""
    file = _file(config, data_dir)
    key, secret = key_file.add(file, name, role, **more)
    typer.echo(f"Key {id_of(key)}, {role}, is in {file.resolve()}. It is shown this once:", err=True)
    typer.echo(secret)
    typer.echo("Send it as `Authorization: Bearer <key>`. A running server takes it within a second.", err=True)
    return 0


def show(config: Path | None, data_dir: Path | None, as_json: bool = False) -> int:
    """Prints what is known of every key, those of the configuration and the environment too. Raises ConfigError."""
    settings = configuration.load(config, data_dir=data_dir)
    entries = [*settings.access.keys, *key_file.read(key_file.path(settings))]
    owners = {key.id: key.owner for key in live(entries).values()}
    if as_json:
        secret = {"key", "sha256"}
        shown = [{"id": id_of(key), **key.model_dump(mode="json", exclude=secret)} for key in entries]
        typer.echo(json.dumps(shown, indent=2))
        return 0
    if not entries:
        typer.echo(f"There is no key in {key_file.path(settings).resolve()}.", err=True)
    for key in entries:
        id = id_of(key)
        shares = f"tasks of {owners[id]}" if owners.get(id, id) != id else ""
        state = f"revoked {key.revoked:%Y-%m-%d}" if key.revoked else ""
        made = f"created {key.created:%Y-%m-%d}" if key.created else "configured"
        about = ", ".join(part for part in (made, state, shares, *_limits(key)) if part)
        typer.echo(f"{id}  {key.name:<20} {key.role:<8} {about}")
    return 0


def revoke(config: Path | None, data_dir: Path | None, name: str) -> int:
    """Raises ConfigError."""
    key = key_file.revoke(_file(config, data_dir), name)
    typer.echo(f"Key {id_of(key)} ({key.name}) is revoked; a running server refuses it within a second.", err=True)
    return 0


def revoke_and_delete(
    config: Path | None, data_dir: Path | None, name: str, server: str | None, api_key: str | None
) -> int:
    """As `revoke`, also of a key that was revoked before; then the server deletes its tasks and voices. Raises
    ConfigError and Failure."""
    settings = configuration.load(config, data_dir=data_dir)
    file = key_file.path(settings)
    if any(key.revoked is None for key in key_file.named(file, name)):
        revoke(config, data_dir, name)
    own = [key for key in key_file.named(file, name) if not key.tasks_of]
    if not own:
        typer.echo("It shared the tasks and voices of another key, which keeps them: nothing is deleted.", err=True)
        return 0
    with asking():
        asyncio.run(_delete([id_of(key) for key in own], server or own_url(settings), api_key))
    return 0


async def _delete(ids: Sequence[str], url: str, api_key: str | None) -> None:
    connection = Connection(url, api_key, patience=PATIENCE, tls=None)
    try:
        for id in ids:
            erased = await connection.ask(_Erased, "DELETE", f"/keys/{id}/data")
            typer.echo(f"Of key {id}, {erased.tasks} tasks and {erased.voices} voices are deleted.", err=True)
    finally:
        await connection.close()


class _Erased(Struct):
    tasks: int
    voices: int


def _file(config: Path | None, data_dir: Path | None) -> Path:
    return key_file.path(configuration.load(config, data_dir=data_dir))


def _limits(key: AccessKey) -> list[str]:
    limits = {
        "requests a minute": key.requests_per_minute,
        "at a time": key.concurrent,
        "audio-hours a day": key.audio_hours_per_day,
    }
    return [f"{value:g} {name}" for name, value in limits.items() if value is not None]
