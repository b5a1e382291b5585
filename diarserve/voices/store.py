"""Stored voices: one encrypted file for each, and all of them in memory.

Files rather than rows: a voice is read and written as a whole, there are some thousands at most, and to delete one is
to remove its file, which leaves nothing in free pages or a write-ahead log.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from diarserve.core.configuration import ConfigError
from diarserve.core.errors import InvalidRequest, NotFound, StorageFull, Unprocessable
from diarserve.core.options import speaker_name
from diarserve.voices.encryption import Cipher
from diarserve.voices.voice import Sample, Voice
from workers.media.private_files import create_private

MAX_SAMPLES = 20  # of one voice; the oldest goes when there is one more
_SUFFIX, _PART = ".voice", ".part"


class VoiceStore:
    """Of one server; every change is on the disk when the call returns. Files are small, so that the event loop waits
    for them (some 5 ms)."""

    def __init__(self, folder: Path, cipher: Cipher, most: int) -> None:
        """Reads what is there. `most`: voices of one owner. Raises ConfigError for a file that cannot be decrypted."""
        self._folder = folder
        self._cipher = cipher
        self._most = most
        self._voices: dict[str, Voice] = {}
        folder.mkdir(0o700, exist_ok=True)
        for file in sorted(folder.iterdir()):
            if file.suffix == _PART:
                file.unlink()  # a server was killed as it wrote it
            elif file.suffix == _SUFFIX:
                voice = self._read(file)
                self._voices[voice.id] = voice

    def of(self, owner: str | None) -> list[Voice]:
        """By name. None: everybody's."""
        return sorted((v for v in self._voices.values() if owner in (None, v.owner)), key=lambda voice: voice.name)

    def get(self, id: str, owner: str | None) -> Voice:
        """Raises NotFound: for another's as for one that is not there."""
        voice = self._voices.get(id)
        if voice is None or owner not in (None, voice.owner):
            raise NotFound(f"There is no voice {id[:64]}.", code="voice_not_found")
        return voice

    def chosen(self, owner: str, wanted: Sequence[str]) -> list[Voice]:
        """Of the owner's voices those that a request names by name or id; all of them for `true`. Raises
        InvalidRequest."""
        own = self.of(owner)
        if "true" in wanted:
            return own
        found = [voice for voice in own if voice.id in wanted or voice.name in wanted]
        for name in wanted:
            if not any(name in (voice.id, voice.name) for voice in found):
                message = f"There is no voice {name[:100]!r}: enrol it first, or leave it out."
                raise InvalidRequest(message, code="voice_not_found", param="known_voices")
        return found

    def require_room(self, owner: str, name: str) -> str:
        """The name, as it would be stored. Raises InvalidRequest and Unprocessable."""
        try:
            name = speaker_name(name)
        except ValueError as error:
            raise InvalidRequest(f"name: {error}.", param="name") from error
        own = self.of(owner)
        if any(voice.name == name for voice in own):
            message = f"There is a voice {name!r} already: add samples to it, or delete it."
            raise Unprocessable(message, code="voice_exists", param="name")
        if len(own) >= self._most:
            raise Unprocessable(f"There are {self._most} voices already: delete some.", code="too_many_voices")
        return name

    def add(self, owner: str, name: str, samples: Sequence[Sample]) -> Voice:
        """Raises as `require_room`, and StorageFull."""
        name = self.require_room(owner, name)
        return self._write(Voice(uuid.uuid4().hex, owner, name, time.time(), tuple(samples)))

    def extend(self, id: str, owner: str | None, samples: Sequence[Sample]) -> Voice:
        """With samples of one model; those of another model go. Raises NotFound and StorageFull."""
        voice = self.get(id, owner)
        kept = [sample for sample in voice.samples if sample.model == samples[-1].model]
        return self._write(replace(voice, samples=tuple([*kept, *samples][-MAX_SAMPLES:])))

    def delete(self, id: str, owner: str | None) -> Voice:
        """Raises NotFound."""
        voice = self.get(id, owner)
        self._path(id).unlink(missing_ok=True)
        self._sync()
        return self._voices.pop(voice.id)

    def _read(self, file: Path) -> Voice:
        try:
            voice = msgspec.msgpack.decode(self._cipher.decrypt(file.read_bytes()), type=Voice)
        except (OSError, ValueError) as error:
            raise ConfigError(f"voices.key: the stored voice {file} cannot be read: {error}") from error
        if voice.id != file.stem:
            raise ConfigError(f"the stored voice {file} is another voice's file")
        return voice

    def _write(self, voice: Voice) -> Voice:
        part = self._path(voice.id).with_suffix(_PART)
        try:
            part.unlink(missing_ok=True)
            with create_private(part) as file:
                file.write(self._cipher.encrypt(msgspec.msgpack.encode(voice)))
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path(voice.id))
            self._sync()
        except OSError as error:
            part.unlink(missing_ok=True)
            raise StorageFull("There is no room left for voices; try again later.", retry_after=60) from error
        self._voices[voice.id] = voice
        return voice

    def _path(self, id: str) -> Path:
        return self._folder / f"{id}{_SUFFIX}"

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
