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
    postgres, objects = _kinds()
    bucket = objects.open(settings.store.objects)
    url, lease = settings.store.url.get_secret_value(), settings.store.lease_seconds
    return await postgres.open(url, bucket, lease), bucket


async def reach(settings: Settings) -> None:
    """Ask what several servers share whether it answers, and change nothing. Raises as `shared_store`."""
    postgres, objects = _kinds()
    await postgres.reach(settings.store.url.get_secret_value())
    async for _ in objects.open(settings.store.objects).under("doctor/"):
        pass


def _kinds() -> tuple[type[PostgresStore], type[Objects]]:
    try:
        from diarserve.tasks.store.objects import Objects
        from diarserve.tasks.store.postgres import PostgresStore
    except ImportError as error:
        extras = "[store] url needs the extras postgres and s3: pip install 'diarserve[postgres,s3]'"
        raise ConfigError(f"{extras} ({error})") from error
    return PostgresStore, Objects
