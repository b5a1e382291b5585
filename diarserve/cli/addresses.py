"""Where a configuration's own server is."""

from __future__ import annotations

from diarserve.core.settings import Settings

_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # what listens everywhere is on loopback too


def own_url(settings: Settings) -> str:
    """The server that these settings start, for this machine.

    >>> own_url(Settings.model_validate({"host": "0.0.0.0", ...}))
    'http://127.0.0.1:8000'
    """
    host = _ANY.get(settings.host, settings.host)
    scheme = "https" if settings.tls.certificate else "http"
    return f"{scheme}://[{host}]:{settings.port}" if ":" in host else f"{scheme}://{host}:{settings.port}"
