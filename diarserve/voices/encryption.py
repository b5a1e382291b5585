"""Encryption of stored voices (Fernet: AES-128 in CBC mode with HMAC-SHA256, https://github.com/fernet/spec)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diarserve.core.configuration import ConfigError
from diarserve.core.settings import Voices

_HOW = "make one by `openssl rand -base64 32`, and keep a copy elsewhere: without it stored voices are lost"


class Cipher:
    def __init__(self, keys: Sequence[str]) -> None:
        """The first key encrypts, all decrypt. Raises ValueError for one that is none."""
        from cryptography.fernet import Fernet, MultiFernet  # 50 ms: only servers that keep voices pay it

        self._keys: Any = MultiFernet([Fernet(key) for key in keys])

    def encrypt(self, data: bytes) -> bytes:
        return bytes(self._keys.encrypt(data))

    def decrypt(self, token: bytes) -> bytes:
        """Raises ValueError for what was not encrypted with one of the keys, or was changed since."""
        from cryptography.fernet import InvalidToken

        try:
            return bytes(self._keys.decrypt(token))
        except InvalidToken as error:
            raise ValueError("it was encrypted with another key, or is damaged") from error


def cipher(settings: Voices) -> Cipher:
    """With the keys of the settings. Raises ConfigError where there is none, or one that is wrong, and
    without the package that encrypts."""
    keys = _keys(settings)
    if not keys:
        raise ConfigError(f"voices.key: [voices] is enabled and there is no key. Set key_file, or key: {_HOW}")
    try:
        return Cipher(keys)
    except ImportError as error:
        raise ConfigError(f'voices.enabled: {error}: pip install "diarserve[voices]", or leave it off') from error
    except ValueError:
        raise ConfigError(f"voices.key: a key is 32 bytes in base64: {_HOW}") from None


def _keys(settings: Voices) -> list[str]:
    """The first encrypts, all decrypt."""
    keys = [settings.key.get_secret_value()] if settings.key else []
    if settings.key_file:
        try:
            keys += settings.key_file.read_text().split()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ConfigError(f"voices.key_file {settings.key_file}: {reason}") from error
    return [key for key in keys if key]
