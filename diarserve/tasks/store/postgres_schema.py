"""The tables in PostgreSQL, made and brought up to date by the first server that starts."""

from __future__ import annotations

import psycopg
from psycopg import sql

from diarserve.tasks.store.protocol import StoreError

_LOCK = 0x64696172  # "diar": the advisory lock of whoever changes the schema

# Applied in order, each in the one transaction that holds the lock; schema_version counts those that were.
MIGRATIONS = (
    """
    CREATE TABLE tasks (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- order of acceptance
        id text NOT NULL UNIQUE,
        filename text NOT NULL,
        options text NOT NULL, -- JSON
        priority integer NOT NULL, -- index in PRIORITIES
        batch_id text,
        position integer NOT NULL,
        idempotency_key text,
        owner text NOT NULL DEFAULT '', -- id of an access key; '' without one
        upload_sha256 bytea, -- NULL without an idempotency_key
        status text NOT NULL DEFAULT 'queued',
        created_at double precision NOT NULL,
        started_at double precision,
        finished_at double precision,
        attempts integer NOT NULL DEFAULT 0,
        server text, -- that processes it, or did last
        progress text, -- JSON; NULL where it is not processed
        error text, -- JSON
        document text, -- name of the object that holds it
        callback_url text,
        callback_origin text, -- scheme, host and port
        callback_state text, -- due, sent, given up
        callback_at double precision,
        callback_attempts integer NOT NULL DEFAULT 0
    ) WITH (fillfactor = 70); -- room for the next version of a row beside it: progress is written twice a second
    CREATE INDEX tasks_queue ON tasks (priority, seq) WHERE status = 'queued';
    CREATE INDEX tasks_processing ON tasks (server) WHERE status = 'processing';
    CREATE INDEX tasks_status ON tasks (status, seq);
    CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;
    CREATE INDEX tasks_batch ON tasks (batch_id, position) WHERE batch_id IS NOT NULL;
    CREATE INDEX tasks_key ON tasks (idempotency_key, owner) WHERE idempotency_key IS NOT NULL;
    CREATE INDEX tasks_callback ON tasks (callback_at, callback_origin) WHERE callback_state = 'due';
    CREATE INDEX tasks_owner ON tasks (owner, seq);

    -- Words and turns of tasks that are processed, for servers that do not.
    CREATE TABLE news (
        task bigint NOT NULL REFERENCES tasks (seq) ON DELETE CASCADE,
        number integer NOT NULL,
        content bytea NOT NULL,
        PRIMARY KEY (task, number)
    );

    CREATE TABLE servers (id text PRIMARY KEY, expires_at timestamptz NOT NULL);

    -- Counted as tasks change, by rows that are added and now and then summed up: one row for each status would make
    -- all transactions wait for one another.
    CREATE TABLE counts (status text NOT NULL, tasks bigint NOT NULL);
    CREATE FUNCTION count_task() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            INSERT INTO counts VALUES (OLD.status, -1);
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO counts VALUES (NEW.status, 1);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER tasks_counted AFTER INSERT OR DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION count_task();
    CREATE TRIGGER tasks_counted_on AFTER UPDATE OF status ON tasks FOR EACH ROW
        WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION count_task();

    -- Of all that ever ended, purged ones included; summed up as counts are.
    CREATE TABLE totals (
        status text NOT NULL,
        tasks bigint NOT NULL,
        audio_seconds double precision NOT NULL,
        processing_seconds double precision NOT NULL
    );
    """,
    """
    CREATE TABLE revisions (
        task bigint NOT NULL REFERENCES tasks (seq) ON DELETE CASCADE,
        number integer NOT NULL, -- from 1
        created_at double precision NOT NULL,
        changes bytea NOT NULL, -- JSON
        PRIMARY KEY (task, number)
    );
    """,
    """
    ALTER TABLE tasks ADD COLUMN traceparent text NOT NULL DEFAULT ''; -- W3C Trace Context; '' where traces are off
    """,
)


async def migrate(connection: psycopg.AsyncConnection) -> None:
    """Raises StoreError for a database that a newer version wrote, and psycopg's errors."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        await connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL)")
        found = await (await connection.execute("SELECT max(version) FROM schema_version")).fetchone()
        version = found[0] or 0 if found else 0
        if version > len(MIGRATIONS):
            raise StoreError(f"The task store was written by a newer version: schema {version}, not {len(MIGRATIONS)}.")
        for script in MIGRATIONS[version:]:
            await connection.execute(sql.SQL(script))
        if version < len(MIGRATIONS):
            await connection.execute("DELETE FROM schema_version")
            await connection.execute("INSERT INTO schema_version VALUES (%s)", (len(MIGRATIONS),))
