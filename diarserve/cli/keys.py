"""`diarserve keys`: the access keys that the server lets in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from diarserve.access import key_file
from diarserve.access.keys import id_of, live
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


def _file(config: Path | None, data_dir: Path | None) -> Path:
    return key_file.path(configuration.load(config, data_dir=data_dir))


def _limits(key: AccessKey) -> list[str]:
    limits = {
        "requests a minute": key.requests_per_minute,
        "at a time": key.concurrent,
        "audio-hours a day": key.audio_hours_per_day,
    }
    return [f"{value:g} {name}" for name, value in limits.items() if value is not None]
