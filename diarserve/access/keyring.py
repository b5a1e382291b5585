"""The keys that let in at this moment: those of the settings and those of the keys file, which is read again when it
changes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path

from diarserve.access import key_file, keys
from diarserve.access.hosts import is_loopback
from diarserve.access.keys import Key
from diarserve.core.configuration import ConfigError
from diarserve.core.settings import AccessKey, Settings

log = logging.getLogger(__name__)

_LOOK = 1.0  # seconds between looks at the file

_Version = tuple[int, int, int] | None  # of a file; None: it is not there


class Keyring:
    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError for a keys file that cannot be read."""
        self._file = key_file.path(settings)
        self._configured = settings.access.keys
        self._version = _version(self._file)
        self._looked = time.monotonic()
        self._keys: Mapping[str, Key] = {}
        self._ever = False
        self._take(key_file.read(self._file))

    def __len__(self) -> int:
        self._look()
        return len(self._keys)

    @property
    def required(self) -> bool:
        """Whether a key is needed: from the first one on, and still when the last one is revoked or its file gone."""
        self._look()
        return self._ever

    def find(self, secret: str) -> Key | None:
        self._look()
        return keys.find(self._keys, secret)

    def names_of(self, owner: str) -> list[str]:
        """The keys that let in at this moment and whose tasks are this owner's."""
        self._looked = -math.inf
        self._look()
        return sorted(key.name for key in self._keys.values() if key.owner == owner)

    def _take(self, from_file: list[AccessKey]) -> None:
        entries = [*self._configured, *from_file]
        self._keys = keys.live(entries)
        self._ever = self._ever or bool(entries)

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        if (version := _version(self._file)) == self._version:
            return
        self._version = version
        try:
            self._take(key_file.read(self._file))
        except ConfigError as error:
            log.error("the access keys stay as they were: %s", error)
        else:
            log.info("access keys in use: %d", len(self._keys))


def _version(file: Path) -> _Version:
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size


def require_keys_or_loopback(settings: Settings) -> None:
    """Raises ConfigError where everybody on a network could read and delete everybody's transcripts."""
    if is_loopback(settings.host) or settings.access.open or len(Keyring(settings)):
        return
    raise ConfigError(
        f"there is no access key: whoever reaches {settings.host or 'this machine'} could read and delete everything. "
        "Make a key: `diarserve keys add NAME --role admin`; or, where something before the server decides who may "
        "ask, set DIARSERVE_ACCESS_OPEN=true ([access] open = true)"
    )
