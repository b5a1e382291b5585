"""What the server knows about who may ask: its keys, their limits, the names and web pages that it expects."""

from __future__ import annotations

from dataclasses import dataclass

from diarserve.access import hosts
from diarserve.access.key_limits import KeyLimits
from diarserve.access.keyring import Keyring
from diarserve.access.keys import Key
from diarserve.core.settings import Settings
from diarserve.core.types import Role


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks."""

    role: Role
    owner: str = ""  # of the tasks that it makes
    key: Key | None = None

    @property
    def sees(self) -> str | None:
        """The owner whose tasks it sees; None: everybody's."""
        return None if self.role == "admin" else self.owner

    def may_see(self, owner: str) -> bool:
        return self.sees in (None, owner)


class Gate:
    """keyring: None lets everybody in as `anonymous`. host: what is listened on."""

    def __init__(self, settings: Settings, keyring: Keyring | None, host: str, anonymous: Role = "admin") -> None:
        access = settings.access
        self.limits = KeyLimits()
        self.anonymous = Client(anonymous)
        self.origins = frozenset(origin.lower() for origin in access.origins)
        self.names = frozenset(map(hosts.name_of, (*access.hosts, host))) - {"", "0.0.0.0", "::"}
        self._keyring = keyring
        self._names_are_set = bool(access.hosts)
        self._on_loopback = hosts.is_loopback(host)

    @property
    def keyed(self) -> bool:
        """Whether a key is needed."""
        return self._keyring is not None and self._keyring.required

    @property
    def checks_host(self) -> bool:
        """A key is proof enough: web pages of others have none."""
        return self._names_are_set or (self._on_loopback and not self.keyed)

    def find(self, secret: str) -> Client | None:
        key = self._keyring.find(secret) if self._keyring else None
        return Client(key.role, key.owner, key) if key else None

    def keys_of(self, owner: str) -> list[str]:
        """The names of the keys that let in at this moment and whose tasks are this owner's."""
        return self._keyring.names_of(owner) if self._keyring else []
