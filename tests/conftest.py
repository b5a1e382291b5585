from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from diarserve.core.settings import Settings
from diarserve.http import app
from tests.support import loopback_only, postgresql, recordings
from tests.support.app import AppServer, Client, Start, service, stand_ins, wav
from tests.support.postgresql import Postgresql
from tests.support.server import Server, running
from workers.runtime.privacy import stop_telemetry

stop_telemetry()  # some tests load models into this process


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.models)


@pytest.fixture(autouse=True)
def _loopback_only() -> Iterator[None]:
    with loopback_only.required():
        yield


@pytest.fixture(scope="session")
def sample() -> Path:
    """The 30 s telephone call of two speakers that pyannote.audio ships."""
    return recordings.sample()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server process on the embedded models, shared by all tests that do it no harm."""
    with running() as started:
        yield started


@pytest.fixture(scope="session")
def shared_database() -> Iterator[Postgresql]:
    """A PostgreSQL server. Skipped where it is not installed."""
    with postgresql.running() as started:
        yield started


@pytest.fixture
def database(shared_database: Postgresql) -> Postgresql:
    """The same, without tables."""
    shared_database.empty()
    return shared_database


@pytest.fixture
def recording() -> Callable[..., bytes]:
    return wav


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    return partial(stand_ins, tmp_path)


@pytest.fixture
def start(settings: Callable[..., Settings], aiohttp_client: Any) -> Start:
    """Begin the application, and wait until each of its lanes is ready or has given up."""

    async def begin(wait: bool = True, **sections: Any) -> Client:
        server = AppServer(app.make(settings(**sections)))
        client: Client = await aiohttp_client(server)  # it cancels handlers as `diarserve serve` does
        if wait:
            for lane in service(client).lanes:
                await lane.wait_ready()
        return client

    return begin
