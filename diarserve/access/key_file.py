"""The file of access keys, which `diarserve keys` writes and the server reads:

    {"keys": [{"name": "app", "role": "submit", "sha256": "…", "created": "2026-11-24T12:00:00Z"}]}

Readable by its owner alone, and replaced as a whole: a reader sees the old one or the new one.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from diarserve.access.keys import digest, id_of, new_secret
from diarserve.core.configuration import ConfigError
from diarserve.core.settings import AccessKey, Settings
from diarserve.core.types import Role


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[AccessKey]


def path(settings: Settings) -> Path:
    return settings.access.keys_file or settings.data_dir / "keys.json"


def read(file: Path) -> list[AccessKey]:
    """None of them where there is no file. Raises ConfigError for one that cannot be read."""
    try:
        return _Content.model_validate_json(file.read_bytes()).keys
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        raise ConfigError(f"{file}: {_first(error)}") from error


def add(
    file: Path,
    name: str,
    role: Role,
    *,
    tasks_of: str = "",
    requests_per_minute: int | None = None,
    concurrent: int | None = None,
    audio_hours_per_day: float | None = None,
) -> tuple[AccessKey, str]:
    """A new key's entry, and the key, which is written nowhere. Raises ConfigError where a key of this name is in use,
    and for a name that is none."""
    secret = new_secret()
    with _changed(file) as keys:
        if any(key.name == name and key.revoked is None for key in keys):
            raise ConfigError(f"there is a key {name!r} already: revoke it first, or choose another name")
        try:
            key = AccessKey(
                name=name,
                role=role,
                sha256=digest(secret),
                tasks_of=_shared(keys, tasks_of) if tasks_of else "",
                requests_per_minute=requests_per_minute,
                concurrent=concurrent,
                audio_hours_per_day=audio_hours_per_day,
                created=_now(),
            )
        except ValidationError as error:
            raise ConfigError(_first(error)) from error
        keys.append(key)
    return key, secret


def revoke(file: Path, name: str) -> AccessKey:
    """name: or the id. The entry stays, revoked: its tasks are still its own. Raises ConfigError where there is no
    such key in use."""
    with _changed(file) as keys:
        at = next((at for at, key in enumerate(keys) if name in (key.name, id_of(key)) and key.revoked is None), None)
        if at is None:
            raise ConfigError(f"there is no key {name!r} in use in {file}")
        keys[at] = keys[at].model_copy(update={"revoked": _now()})
        return keys[at]


def restored(file: Path, backup: Path) -> None:
    """Write into a backup's copy of the file that the keys which are revoked now are revoked in it too. Raises
    ConfigError where one of the two cannot be read."""
    revoked = {key.sha256: key.revoked for key in read(file) if key.revoked}
    with _changed(backup) as keys:
        for at, key in enumerate(keys):
            if key.sha256 in revoked:
                keys[at] = key.model_copy(update={"revoked": key.revoked or revoked[key.sha256]})


def named(file: Path, name: str) -> list[AccessKey]:
    """The keys with this name or id, revoked ones too. Raises ConfigError where there is none."""
    if found := [key for key in read(file) if name in (key.name, id_of(key))]:
        return found
    raise ConfigError(f"there is no key {name!r} in {file}")


def _shared(keys: list[AccessKey], name: str) -> str:
    """The id of the key whose tasks are to be shared: revoked ones too, whose tasks a new key may take over."""
    found = [key for key in keys if name in (key.name, id_of(key))]
    if not found:
        raise ConfigError(f"there is no key {name!r}, whose tasks could be shared")
    key = next((key for key in found if key.revoked is None), found[-1])
    return key.tasks_of or id_of(key)


@contextmanager
def _changed(file: Path) -> Iterator[list[AccessKey]]:
    """The keys, written back when the block ends without an error. One process at a time."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        keys = read(file)
        yield keys
        _write(file, _Content(keys=keys).model_dump_json(indent=2, exclude_none=True, exclude_defaults=True))
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(file: Path, text: str) -> None:
    part = file.with_name(f"{file.name}.part")
    with suppress(FileNotFoundError):
        part.unlink()
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text + "\n")
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _first(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return str(error.strerror)
    first = error.errors(include_input=False)[0]  # which may be a key
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
