"""An S3 server of one's own, moto's, in a thread of this process, for as long as a `with` block."""

from __future__ import annotations

import importlib.util
import logging
import os
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import pytest

BUCKET = "recordings"


@dataclass(frozen=True)
class S3:
    environment: Mapping[str, str]  # that leads clients here
    url: str = f"s3://{BUCKET}/diarserve"


@contextmanager
def running(address: str = "127.0.0.1") -> Iterator[S3]:
    """With an empty bucket. Skips the test where moto or obstore is not installed. Within the block this process's own
    environment leads to it."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("obstore") is None:
        pytest.skip("no S3 server is here: the packages moto[server] and obstore are not installed")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    environment = {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }
    try:
        urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT")).close()
        with patch.dict(os.environ, environment):
            yield S3(environment)
    finally:
        server.stop()
