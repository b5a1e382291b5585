"""TLS from certificate files, which may be renewed while the server runs."""

from __future__ import annotations

import logging
import ssl
import time
from pathlib import Path

from diarserve.core.configuration import ConfigError
from diarserve.core.settings import Tls

log = logging.getLogger(__name__)

_LOOK = 1.0  # seconds between looks at the files

_Version = tuple[tuple[int, int, int], ...]


def context(settings: Tls) -> ssl.SSLContext | None:
    """None without a certificate. Raises ConfigError for files that cannot be used together."""
    if settings.certificate is None or settings.key is None:
        return None
    try:
        return _Certificate(settings.certificate, settings.key).context
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"tls: {settings.certificate} and {settings.key} cannot be used: {_reason(error)}") from error


class _Certificate:
    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._version = self._newest()
        self._looked = time.monotonic()
        self.context = self._load()
        self.context.sni_callback = self._renew  # called for every handshake, with or without a name

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self._files, password=_no_password)
        return context

    def _newest(self) -> _Version:
        states = [file.stat() for file in self._files]
        return tuple((state.st_ino, state.st_mtime_ns, state.st_size) for state in states)

    def _renew(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Take a renewed certificate, for this connection too. Files that do not fit together (yet) change nothing."""
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        try:
            if (version := self._newest()) == self._version:
                return
            # In a context of its own first: one that cannot load a key has lost the one it had.
            connection.context = self._load()
            context.load_cert_chain(*self._files, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            log.warning("the TLS certificate stays as it was: %s", _reason(error))
        else:
            self._version = version
            log.info("the TLS certificate was read again")


def _no_password() -> str:
    """Instead of a question on the terminal."""
    raise OSError("the key is encrypted")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
