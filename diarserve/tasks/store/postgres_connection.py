"""Transactions on connections to PostgreSQL, from a pool."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from diarserve.tasks.store import postgres_schema as schema
from diarserve.tasks.store.protocol import StoreError, StoreUnreachable

log = logging.getLogger(__name__)

Row = tuple[Any, ...]
Statement = Callable[..., Awaitable[list[Row]]]  # runs one, by its text and its named values

_CONNECTIONS = 8  # of one server; a transaction takes milliseconds
_WAIT = 10.0  # seconds for one of them to be free, or to be made
# Without these a connection whose other end vanished is noticed after hours. The URL's own go before them.
_NETWORK: dict[str, str | int | None] = {
    "connect_timeout": 5,  # seconds
    "keepalives_idle": 5,  # seconds
    "keepalives_interval": 5,  # seconds
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,  # milliseconds
    "application_name": "diarserve",
}


# The database's side of it: what a server that vanished has locked, and its sessions, are soon free again.
_SESSION = """SET idle_in_transaction_session_timeout = '{idle}s';
SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"""
_IDLE = 15.0  # seconds; a transaction takes milliseconds


class Transaction:
    """Statements of one transaction. Values are named: `%(id)s`."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    async def __call__(self, statement: str, **values: Any) -> list[Row]:
        """The rows that it returns, if it is one that returns rows."""
        known = {name: _storable(value) for name, value in values.items()}
        cursor = await self._connection.execute(statement, known)
        return await cursor.fetchall() if cursor.description else []

    async def many(self, statement: str, values: list[dict[str, Any]]) -> None:
        async with self._connection.cursor() as cursor:
            await cursor.executemany(statement, values)


class PostgresConnection:
    def __init__(self, pool: AsyncConnectionPool, conninfo: str) -> None:
        self._pool = pool
        self._conninfo = conninfo

    @staticmethod
    async def connect(url: str) -> tuple[AsyncConnectionPool, str]:
        """A pool, and what a connection of one's own takes; the tables are there. Raises StoreError, whose message
        never holds the URL: there may be a password in it."""
        conninfo = _conninfo(url)
        with as_store_errors("cannot be opened"):
            async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
                await schema.migrate(connection)
            pool = AsyncConnectionPool(
                conninfo,
                kwargs={"autocommit": True},
                min_size=1,
                max_size=_CONNECTIONS,
                timeout=_WAIT,
                open=False,
                configure=_configured,
                check=AsyncConnectionPool.check_connection,  # the database may have been restarted
            )
            await pool.open(wait=True, timeout=_WAIT)
        return pool, conninfo

    @staticmethod
    async def reach(url: str) -> None:
        """Raises StoreError where nobody answers, or lets this server in. Changes nothing."""
        with as_store_errors("cannot be reached"):
            await (await psycopg.AsyncConnection.connect(_conninfo(url))).close()

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def _transaction(self, *, durable: bool = True) -> AsyncIterator[Transaction]:
        """durable: False where the last second of it may be lost when the database's machine fails."""
        with as_store_errors("cannot be used"):
            async with self._pool.connection() as connection, connection.transaction():
                transaction = Transaction(connection)
                if not durable:
                    await transaction("SET LOCAL synchronous_commit = off")
                yield transaction

    async def _once(self, statement: str, **values: Any) -> list[Row]:
        """A transaction of one statement: two round trips less."""
        with as_store_errors("cannot be used"):
            async with self._pool.connection() as connection:
                return await Transaction(connection)(statement, **values)


async def _configured(connection: psycopg.AsyncConnection) -> None:
    await connection.execute(_SESSION.format(idle=_IDLE).encode())


def _conninfo(url: str) -> str:
    try:
        return make_conninfo("", **_NETWORK | conninfo_to_dict(url))
    except psycopg.ProgrammingError:
        raise StoreError("[store] url is no PostgreSQL URL: postgresql://user@host/database") from None


@contextmanager
def as_store_errors(what: str) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.DiskFull as error:
        raise StoreError(f"The task store {what}: {_line(error)}") from error
    except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError) as error:
        raise StoreUnreachable(f"The task store {what}: {_line(error)}") from error


def _line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())


def _storable(value: Any) -> Any:
    """Of text that clients send, what PostgreSQL's type has no place for is replaced."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode().replace("\0", "\ufffd")
    return value
