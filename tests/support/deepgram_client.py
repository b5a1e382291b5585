"""Deepgram's own package, against a server of ours."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import httpx
import pytest


@contextmanager
def connected(url: str, key: str = "none") -> Iterator[Any]:
    """A DeepgramClient whose addresses are all `url`. Skips the test without the package."""
    with warnings.catch_warnings():  # it imports names that `websockets` calls deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        deepgram = pytest.importorskip("deepgram", reason="deepgram-sdk is not installed")
        import_module("deepgram.listen.v1.client")
    live = url.replace("http", "ws", 1)
    there = import_module("deepgram.environment").DeepgramClientEnvironment(
        base=url, production=live, agent=live, agent_rest=url
    )
    with httpx.Client(timeout=60) as http:
        yield deepgram.DeepgramClient(api_key=key, environment=there, httpx_client=http)
