"""Requests that are no HTTP, or not quite: each is answered in the documented shape, and none harms the server."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import psutil
import pytest

from tests.support import hostile_requests
from tests.support.app import API, CONFIG, TRANSCRIBE, Client, Start
from tests.support.server import running
from tests.support.waiting import wait_until

FORM = b"Host: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"


async def answered(client: Client, request: bytes) -> tuple[int, dict[str, str | None]]:
    """The status and the error of the first answer."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert b"content-type: application/json" in head.lower()
        assert head.startswith(b"HTTP/1.")
        assert b"\r\nx-request-id: " in head.lower()
        return int(head.split()[1]), json.loads(await reader.readexactly(length))["error"]
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_", "status", "says"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nExpect: \xc3\xa9\r\n\r\n", 417, "100-continue"),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nExpect: \xff\r\n\r\n", 417, "100-continue"),
        (b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nExpect: 200-ok\r\n\r\n", 417, "100-continue"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400, "HTTPS traffic on an HTTP port"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 400, "Invalid method"),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "url path"),
        (b"GET / JUNK/1.1\r\nHost: localhost\r\n\r\n", 400, "HTTP"),
        (b"GET /nowhere HTTP/2.0\r\nHost: localhost\r\n\r\n", 404, "Not Found"),
        (b"BREW /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "method"),
        (b"PATCH /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "Not Allowed"),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"v" * 9000 + b"\r\n\r\n", 400, "8190 bytes"),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5, 6\r\n\r\n", 400, "Content-Length"),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nBad Name: x\r\n\r\n", 400, "header"),
        (f"POST {TRANSCRIBE} HTTP/1.1\r\n".encode() + FORM + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "chunk"),
        (f"POST {TRANSCRIBE} HTTP/1.1\r\n".encode() + FORM + b"Content-Length: 5\r\n\r\n--x\r\n", 400, "multipart"),
        (f"GET {API}/status/%ff HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), 404, "There is no task"),
    ],
    ids=["expect not ASCII", "expect not UTF-8", "expect unknown", "TLS hello", "SSH", "raw path", "version", "HTTP/2",
         "method", "PATCH", "long header", "content length", "header name", "chunk size", "torn multipart", "task id"],
)  # fmt: skip
async def test_what_aiohttp_refuses_is_answered_in_our_shape_and_without_a_traceback(
    start: Start, caplog: pytest.LogCaptureFixture, request_: bytes, status: int, says: str
) -> None:
    client = await start()
    caplog.set_level(logging.INFO)
    caplog.clear()
    got, error = await answered(client, request_)
    assert got == status, error
    assert error.keys() == {"code", "message", "param"}
    assert says in str(error["message"])
    assert len(str(error["message"])) < 300
    assert [record for record in caplog.records if record.exc_info] == []
    assert (await client.get("/livez")).status == 200


async def test_under_v1_it_is_openais_shape(start: Start) -> None:
    client = await start(wait=False)
    status, error = await answered(client, b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nExpect: \xff\r\n\r\n")
    assert (status, error["type"], error["code"]) == (417, "invalid_request_error", "http_error")


async def test_a_field_name_that_is_not_utf_8_is_answered(start: Start) -> None:
    client = await start()
    for name in (b"\xff", b"colour\xed\xa0\x80"):
        body = b'--x\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\nred\r\n--x--\r\n'
        head = f"POST {TRANSCRIBE}?%ff=%fe HTTP/1.1\r\nContent-Length: {len(body)}\r\n".encode()
        assert (await answered(client, head + FORM + b"\r\n" + body))[0] == 400


async def test_a_refused_client_reads_why_though_it_goes_on_sending(start: Start) -> None:
    client = await start(wait=False)
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"NONSENSE\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    for _ in range(10):  # a server that had closed would reset the connection, and drop what is not yet read
        writer.write(bytes(65_536))
        await writer.drain()
    assert json.loads(await reader.read())["error"]["code"] == "invalid_request"
    writer.close()


async def test_an_upload_cut_short_is_no_error_of_the_server(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    client = await start()
    caplog.set_level(logging.INFO)
    caplog.clear()
    bodies = [b"Content-Length: 99\r\n\r\n--x\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n--x\r\n\r\nzz\r\n"]
    for body in bodies:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(f"POST {TRANSCRIBE} HTTP/1.1\r\n".encode() + FORM + body)
        await writer.drain()
        writer.write_eof()
        await reader.read()  # to its end
        writer.close()
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_hostile_requests_get_documented_answers_and_leave_nothing(tmp_path: Path) -> None:
    config, data = tmp_path / "config.toml", tmp_path / "data"
    config.write_text(CONFIG)
    with running(arguments=["--config", str(config), "--data-dir", str(data)]) as server:
        process = psutil.Process(server.pid)
        hostile_requests.run(server.url, 20, seed=1)  # the first ones open what stays open
        children, descriptors = process.children(recursive=True), process.num_fds()
        assert hostile_requests.run(server.url, 150, seed=2).total() == 150
        assert server.get("/readyz")["status"] == "ready"
        wait_until(lambda: not server.get("/stats")["active_tasks"] and process.num_fds() <= descriptors)
        wait_until(lambda: not [*(data / "spool").iterdir(), *(data / "tasks").iterdir()])
        assert process.children(recursive=True) == children
