"""The voices that a service keeps, where they are turned on."""

from __future__ import annotations

from pathlib import Path

from diarserve.core.errors import InvalidRequest, NotFound
from diarserve.core.options import Options
from diarserve.core.settings import Voices
from diarserve.voices.encryption import cipher
from diarserve.voices.store import VoiceStore
from diarserve.voices.voice import Voice

_OFF = "Voices are not kept here: they are turned on by `enabled` in [voices]."


class StoredVoices:
    def __init__(self, settings: Voices) -> None:
        """Raises ConfigError where voices are to be kept and there is no key for them."""
        self._most = settings.max_voices
        self._cipher = cipher(settings) if settings.enabled else None
        self._store: VoiceStore | None = None

    def open(self, folder: Path) -> None:
        """Raises ConfigError where stored voices cannot be decrypted."""
        if self._cipher:
            self._store = VoiceStore(folder, self._cipher, self._most)

    @property
    def store(self) -> VoiceStore:
        """Raises NotFound where none are kept."""
        if self._store is None:
            raise NotFound(_OFF, code="voices_disabled")
        return self._store

    def chosen(self, options: Options, owner: str) -> list[Voice]:
        """Those that a request names. Raises InvalidRequest."""
        if not options.known_voices:
            return []
        if self._store is None:
            raise InvalidRequest(_OFF, code="voices_disabled", param="known_voices")
        return self._store.chosen(owner, options.known_voices)

    def delete_all(self, owner: str) -> int:
        """How many there were."""
        if self._store is None:
            return 0
        own = self._store.of(owner)
        for voice in own:
            self._store.delete(voice.id, owner)
        return len(own)
