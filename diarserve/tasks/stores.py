"""The store that the settings name. What several servers need is imported only where it is configured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diarserve.core.configuration import ConfigError
from diarserve.core.settings import Settings
from diarserve.tasks import data_directory
from diarserve.tasks.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from diarserve.tasks.store.objects import Objects
    from diarserve.tasks.store.postgres import PostgresStore


async def file_store(settings: Settings) -> SqliteStore:
    """Of one server. Raises StoreError."""
    return await SqliteStore.open(settings.data_dir / data_directory.DATABASE)


async def shared_store(settings: Settings) -> tuple[PostgresStore, Objects]:
    """Of several. Raises StoreError, and ConfigError where what it needs is not installed."""
    try:
        from diarserve.tasks.store.objects import Objects
        from diarserve.tasks.store.postgres import PostgresStore
    except ImportError as error:
        extras = "[store] url needs the extras postgres and s3: pip install 'diarserve[postgres,s3]'"
        raise ConfigError(f"{extras} ({error})") from error
    given = settings.store
    objects = Objects.open(given.objects)
    return await PostgresStore.open(given.url.get_secret_value(), objects, given.lease_seconds), objects
