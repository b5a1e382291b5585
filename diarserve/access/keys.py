"""Access keys: `dsk_` and 256 random bits as base64url. What is kept of one is its SHA-256."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from diarserve.core.settings import AccessKey
from diarserve.core.types import Role

_ID = 16  # hexadecimal digits


@dataclass(frozen=True, slots=True)
class Key:
    """A key that lets in."""

    id: str  # public: the first digits of its SHA-256
    name: str
    role: Role
    owner: str  # the id of the key whose tasks it sees and makes: its own, unless it shares another's
    digest: str
    requests_per_minute: int | None = None
    concurrent: int | None = None
    audio_hours_per_day: float | None = None


def new_secret() -> str:
    return "dsk_" + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """SHA-256, in hexadecimal. A slow hash would protect what can be guessed; 256 random bits cannot."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def digest_of(key: AccessKey) -> str:
    return digest(key.key.get_secret_value()) if key.key else key.sha256


def id_of(key: AccessKey) -> str:
    return digest_of(key)[:_ID]


def live(keys: Iterable[AccessKey]) -> Mapping[str, Key]:
    """Those that are not revoked, by id."""
    keys = list(keys)
    names = {key.name: id_of(key) for key in sorted(keys, key=lambda key: key.revoked is None)}
    return {
        id_of(key): Key(
            id_of(key),
            key.name,
            key.role,
            names.get(key.tasks_of, key.tasks_of) or id_of(key),
            digest_of(key),
            key.requests_per_minute,
            key.concurrent,
            key.audio_hours_per_day,
        )
        for key in keys
        if key.revoked is None
    }


def find(keys: Mapping[str, Key], secret: str) -> Key | None:
    """The key with this secret. Found by its public id and then compared in constant time, so that the answer takes
    as long for a wrong key as for the right one."""
    presented = digest(secret)
    key = keys.get(presented[:_ID])
    return key if hmac.compare_digest(key.digest if key else "0" * 64, presented) else None
