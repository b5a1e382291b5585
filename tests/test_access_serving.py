"""How a server is reached: addresses that need keys, TLS with certificates that are renewed, the port for metrics."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest
from aiohttp import web

from diarserve.access import key_file, tls
from diarserve.access.hosts import is_loopback
from diarserve.cli import doctor
from diarserve.cli.main import main
from diarserve.core.configuration import ConfigError
from diarserve.core.settings import Settings, Tls
from tests.support.app import API, CONFIG, Start
from tests.support.paths import REPOSITORY
from tests.support.waiting import until, wait_until

needs_openssl = pytest.mark.skipif(not which("openssl"), reason="certificates are made by openssl")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def certificate(folder: Path, name: str) -> Tls:
    """A new one, in place of the one before."""
    files = folder / "certificate.pem", folder / "key.pem"
    made = [file.with_suffix(".new") for file in files]
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *options, *names, "-keyout", str(made[1]), "-out", str(made[0])]
    subprocess.run(command, check=True, capture_output=True)
    for new, file in zip(made, files, strict=True):
        new.replace(file)
    return Tls(certificate=files[0], key=files[1])


async def shown(port: int) -> str:
    """The certificate of a new connection."""
    return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_a_server_on_a_network_without_keys_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    assert not is_loopback(host)
    assert main(["serve", "--host", host, "--data-dir", str(tmp_path / "data")]) == 2
    said = capsys.readouterr().err
    assert "diarserve keys add" in said
    assert "DIARSERVE_ACCESS_OPEN" in said
    assert not (tmp_path / "data").exists()


def test_nor_does_one_whose_keys_are_revoked(tmp_path: Path) -> None:
    key_file.add(tmp_path / "keys.json", "app", "submit")
    key_file.revoke(tmp_path / "keys.json", "app")
    assert main(["serve", "--host", "0.0.0.0", "--data-dir", str(tmp_path)]) == 2


def test_the_doctor_says_that_a_server_would_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_devices", lambda: ({"cpu": "1 thread"}, ""))
    monkeypatch.setenv("DIARSERVE_HOST", "0.0.0.0")
    monkeypatch.setenv("DIARSERVE_DATA_DIR", str(tmp_path))
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    assert main(["doctor", "--config", str(config)]) == 1
    assert "MISSING: there is no access key" in capsys.readouterr().out
    assert main(["keys", "add", "app"]) == 0
    assert main(["doctor", "--config", str(config)]) == 0


@contextmanager
def process(tmp_path: Path, alive: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server on stand-in engines, once it answers at the address `alive`."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    where = ["--config", str(config), "--data-dir", str(tmp_path), *arguments]
    command = [sys.executable, "-m", "diarserve", "serve", *where]
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    server = subprocess.Popen(command, env=variables, stderr=subprocess.DEVNULL)
    try:

        def answers() -> bool:
            assert server.poll() is None
            try:
                with urllib.request.urlopen(alive, timeout=10) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        wait_until(answers)
        yield server
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            assert server.wait(30) == 0
        finally:
            server.kill()
            server.wait()


def is_listened_on(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_an_open_server_on_a_network_starts(tmp_path: Path) -> None:
    port = free_port()
    where = ("--host", "0.0.0.0", "--port", str(port))
    url = f"http://127.0.0.1:{port}"
    with (
        process(tmp_path, f"{url}/livez", *where, DIARSERVE_ACCESS_OPEN="true"),
        urllib.request.urlopen(f"{url}{API}/tasks", timeout=10) as answer,
    ):
        assert answer.status == 200


@needs_openssl
def test_a_server_with_a_key_and_a_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From `diarserve keys add` to an answer over TLS; metrics have a port of their own."""
    assert main(["keys", "add", "app", "--data-dir", str(tmp_path)]) == 0
    secret = capsys.readouterr().out.strip()
    files = certificate(tmp_path, "diarserve")
    port, metrics_port = free_port(), free_port()
    environment = {
        "DIARSERVE_TLS_CERTIFICATE": str(files.certificate),
        "DIARSERVE_TLS_KEY": str(files.key),
        "DIARSERVE_ACCESS_METRICS_PORT": str(metrics_port),
    }
    metrics = f"http://127.0.0.1:{metrics_port}"
    with process(tmp_path, f"{metrics}/livez", "--host", "0.0.0.0", "--port", str(port), **environment):
        wait_until(lambda: is_listened_on(port))  # it is a moment after the one for metrics
        url = f"https://127.0.0.1:{port}{API}/tasks"
        trusting = ssl.create_default_context(cafile=files.certificate)
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {secret}"})
        with urllib.request.urlopen(asked, timeout=10, context=trusting) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url, timeout=10, context=trusting)
        assert refused.value.code == 401
        refused.value.close()
        with urllib.request.urlopen(f"{metrics}/metrics", timeout=10) as answer:
            assert b"diarserve_" in answer.read()
    assert main(["keys", "list", "--data-dir", str(tmp_path)]) == 0
    assert main(["keys", "revoke", "app", "--data-dir", str(tmp_path)]) == 0
    assert main(["keys", "revoke", "app", "--data-dir", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert secret not in shown.out + shown.err
    assert "app" in shown.out


async def test_the_port_for_metrics_has_nothing_else_and_names_no_task(
    start: Start, settings: Callable[..., Settings]
) -> None:
    port = free_port()
    keys = [{"name": "app", "role": "submit", "key": "dsk_" + "k" * 43}]
    client = await start(access={"metrics_port": port, "keys": keys})
    assert (await client.get("/metrics")).status == 401
    statuses = {"/metrics": 200, "/stats": 200, "/livez": 200, "/readyz": 200, f"{API}/tasks": 404, "/docs": 404}
    for path, status in statuses.items():
        async with client.session.get(f"http://127.0.0.1:{port}{path}") as answer:
            assert answer.status == status, path
            if path == "/stats":
                assert (await answer.json())["active_tasks"] == []
    async with client.session.get(f"http://127.0.0.1:{port}/metrics", headers={"Host": "evil.example"}) as answer:
        assert answer.status == 421
    async with client.session.get(f"http://127.0.0.1:{port}/metrics", headers={"Expect": "tea"}) as answer:
        assert answer.status == 417
        assert (await answer.json())["error"]["code"] == "http_error"
        assert answer.headers["X-Request-ID"]


@needs_openssl
async def test_a_renewed_certificate_is_shown_without_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    files = certificate(tmp_path, "first")
    context = tls.context(files)
    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        port = runner.addresses[0][1]
        assert files.certificate is not None
        assert files.key is not None
        first = files.certificate.read_text()
        assert await shown(port) == first
        files.key.write_text("half of it is copied")

        async def refused() -> bool:
            assert await shown(port) == first
            return "stays as it was" in caplog.text

        await until(refused)
        assert await shown(port) == first
        certificate(tmp_path, "second")
        second = files.certificate.read_text()

        async def renewed() -> bool:
            return await shown(port) == second

        await until(renewed)
        assert second != first
    finally:
        await runner.cleanup()


@needs_openssl
def test_files_that_do_not_belong_together_stop_the_start(tmp_path: Path) -> None:
    folders = tmp_path / "one", tmp_path / "other"
    for folder in folders:
        folder.mkdir()
    one, other = (certificate(folder, folder.name) for folder in folders)
    assert tls.context(Tls()) is None
    context = tls.context(one)
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    for files in (Tls(certificate=one.certificate, key=other.key), Tls(certificate=one.key, key=one.key),
                  Tls(certificate=tmp_path / "none", key=one.key)):  # fmt: skip
        with pytest.raises(ConfigError, match="tls"):
            tls.context(files)
    with pytest.raises(ValueError, match="belong together"):
        Tls(certificate=one.certificate)
