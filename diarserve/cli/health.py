"""`diarserve health`."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from pathlib import Path

from diarserve.cli.addresses import own_url
from diarserve.cli.command import Failure
from diarserve.core import configuration

_PATIENCE = 10.0  # seconds


def check(config: Path | None) -> int:
    """Raises ConfigError and Failure."""
    url = f"{own_url(configuration.load(config))}/livez"
    unverified = ssl.create_default_context()  # its certificate is for the name that clients know
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unverified)
    )
    try:
        with opener.open(url, timeout=_PATIENCE):
            return 0
    except OSError as error:  # HTTPError is one
        raise Failure(f"{url} does not answer: {error}") from error
