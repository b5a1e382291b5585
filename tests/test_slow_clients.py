"""Clients that are slow, silent, or too many keep nobody else out. On real server processes."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.app import API, CONFIG, TRANSCRIBE, Recording, Start, error, form, metric, service, spool, wav
from tests.support.server import Server, running
from tests.support.waiting import LIMIT, until

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[..., Awaitable[Streams]]
Limited = Callable[..., Server]


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Limited]:
    """Starts a server process with these limits."""
    with ExitStack() as stack:

        def begin(**limits: float) -> Server:
            config = tmp_path / "config.toml"
            config.write_text(CONFIG + "[limits]\n" + "".join(f"{name} = {value}\n" for name, value in limits.items()))
            return stack.enter_context(
                running(arguments=["--config", str(config), "--data-dir", str(tmp_path / "data")])
            )

        yield begin


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens connections to a port, and closes them at the end."""
    made: list[asyncio.StreamWriter] = []

    async def to(port: int | None, address: str = "127.0.0.1") -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        made.append(writer)
        return reader, writer

    yield to
    for writer in made:
        writer.transport.abort()
    for writer in made:
        with suppress(OSError):
            await writer.wait_closed()


def upload(recording: bytes, path: str = TRANSCRIBE) -> bytes:
    body = HEAD + recording + b"\r\n--x--\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + body


async def answer(streams: Streams) -> tuple[int, str, dict[str, Any]]:
    """The status, the head and the body of the next answer."""
    async with asyncio.timeout(LIMIT):
        head = (await streams[0].readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        return int(head.split()[1]), head, json.loads(await streams[0].readexactly(length))


async def asked(streams: Streams, request: bytes) -> tuple[int, str, dict[str, Any]]:
    streams[1].write(request)
    return await answer(streams)


async def ended(streams: Streams) -> bytes:
    """What is sent until the server closes."""
    async with asyncio.timeout(LIMIT):
        return await streams[0].read()


async def test_a_head_that_does_not_come_ends_the_connection(limited: Limited, connect: Connect) -> None:
    server = limited(head_timeout=1)
    silent = [await connect(server.port) for _ in range(100)]
    slow = await connect(server.port)

    async def drip() -> None:
        for byte in b"GET /livez HTTP/1.1\r\nX-Slow: " + b"a" * 10_000:
            slow[1].write(bytes([byte]))
            await asyncio.sleep(0.1)

    dripping = asyncio.create_task(drip())
    assert await asyncio.gather(*map(ended, [*silent, slow])) == [b""] * 101
    dripping.cancel()
    assert (await asked(await connect(server.port), upload(wav(1))))[0] == 200


async def test_a_connection_without_requests_is_ended(limited: Limited, connect: Connect) -> None:
    server = limited(idle_timeout=0.5)
    streams = await connect(server.port)
    streams[1].write(LIVEZ)
    assert (await answer(streams))[0] == 200
    assert await ended(streams) == b""


async def test_an_answer_that_is_not_taken_ends_the_connection(start: Start, connect: Connect) -> None:
    client = await start(wait=False, limits={"idle_timeout": 1})
    _, writer = await connect(client.port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    assert client.server.runner
    server = client.server.runner.server
    assert server
    await until(lambda: len(server.connections) == 1)
    for _ in range(1000):  # asks on, until the server takes no more of it
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10)
    await until(lambda: not server.connections)


async def test_an_upload_below_the_minimum_rate_is_answered_408_and_leaves_nothing(
    limited: Limited, tmp_path: Path, connect: Connect
) -> None:
    server = limited(min_upload_rate=20_000, upload_rate_window=0.5)
    slow = await connect(server.port)
    whole = upload(wav(60))
    slow[1].write(whole[:20_000])
    status, _, body = await answer(slow)
    assert (status, body["error"]["code"]) == (408, "upload_timeout")
    assert "20000 bytes a second" in body["error"]["message"]
    await until(lambda: not any((tmp_path / "data" / "spool").iterdir()))


async def test_an_upload_above_the_minimum_rate_takes_as_long_as_it_takes(limited: Limited, connect: Connect) -> None:
    server = limited(min_upload_rate=100, upload_rate_window=1)
    slow = await connect(server.port)
    whole = upload(wav(1))
    for at in range(0, len(whole), 1_200):  # 27 pieces: several windows
        slow[1].write(whole[at : at + 1_200])
        await asyncio.sleep(0.1)
    assert (await answer(slow))[0] == 200


@pytest.mark.parametrize("path", [TRANSCRIBE, f"{TRANSCRIBE}/async", "/v1/audio/transcriptions"])
async def test_uploads_under_way_take_no_place_from_others(
    limited: Limited, tmp_path: Path, path: str, connect: Connect
) -> None:
    server = limited(max_pending=2, min_upload_rate=0)
    slow = [await connect(server.port) for _ in range(20)]
    whole = upload(wav(1), path)
    for _, writer in slow:
        writer.write(whole[:-5_000])
    await until(lambda: len([*(tmp_path / "data" / "spool").iterdir()]) == 20)
    for _ in range(5):
        assert (await asked(await connect(server.port), upload(wav(1))))[0] == 200
    for streams in slow:  # one after the other: what is in counts
        streams[1].write(whole[-5_000:])
        assert (await answer(streams))[0] in (200, 202)


async def test_uploads_under_way_have_a_number(start: Start, recording: Recording, connect: Connect) -> None:
    client = await start(limits={"max_uploads": 1, "min_upload_rate": 0})
    _, writer = await connect(client.port)
    writer.write(upload(recording(1))[:-5_000])
    await until(lambda: bool(spool(client)))
    assert await metric(client, "diarserve_uploads") == 1
    refused = await client.post(TRANSCRIBE, data=form(recording()))
    assert await error(refused) == (429, "queue_full")
    assert int(refused.headers["Retry-After"]) >= 1
    writer.close()
    await until(lambda: not spool(client) and not service(client).tasks.uploads.taken)
    assert (await client.post(TRANSCRIBE, data=form(recording()))).status == 200


async def test_what_cannot_fit_is_refused_before_it_is_sent(start: Start, connect: Connect) -> None:
    client = await start(limits={"max_upload_mib": 10**9})
    reader, writer = await connect(client.port)
    head = f"POST {TRANSCRIBE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**14}\r\n".encode()
    writer.write(head + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n")
    assert (await answer((reader, writer)))[2]["error"]["code"] == "storage_full"
    writer.close()


async def test_text_without_end_is_not_kept_in_memory(start: Start, recording: Recording) -> None:
    client = await start()
    for count, size in ((101, 1), (40, 60_000)):
        parts = [b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n' + b"a" * size + b"\r\n"] * count
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        body = io.BytesIO(b"".join(parts) + b"--x--\r\n")
        refused = await client.post(TRANSCRIBE, data=body, headers=headers)
        assert await error(refused) == (400, "invalid_request")
        assert "fields" in (await refused.json())["error"]["message"]


async def test_one_client_cannot_have_every_connection(limited: Limited, connect: Connect) -> None:
    server = limited(max_client_connections=5)
    held = [await connect(server.port, "127.0.0.2") for _ in range(5)]
    for streams in held:
        streams[1].write(LIVEZ)
        assert (await answer(streams))[0] == 200
    status, head, body = await asked(await connect(server.port, "127.0.0.2"), LIVEZ)
    assert (status, body["error"]["code"]) == (429, "queue_full")
    assert "Retry-After: 1" in head
    assert "Connection: close" in head
    assert (await asked(await connect(server.port, "127.0.0.3"), upload(wav(1))))[0] == 200
    assert (await asked(await connect(server.port), upload(wav(1))))[0] == 200
    silent = [await connect(server.port, "127.0.0.2") for _ in range(20)]  # these are not kept waiting for a head
    assert await asyncio.gather(*map(ended, silent)) == [b""] * 20
    held[0][1].close()

    async def is_served() -> bool:
        return (await asked(await connect(server.port, "127.0.0.2"), LIVEZ))[0] == 200

    await until(is_served)


async def test_one_client_cannot_have_every_request(limited: Limited, tmp_path: Path, connect: Connect) -> None:
    server = limited(max_client_requests=3, min_upload_rate=0)
    waiting = [await connect(server.port, "127.0.0.2") for _ in range(3)]
    for _, writer in waiting:
        writer.write(upload(wav(1))[:-5_000])
    await until(lambda: len([*(tmp_path / "data" / "spool").iterdir()]) == 3)
    status, head, body = await asked(await connect(server.port, "127.0.0.2"), upload(wav(1)))
    assert (status, body["error"]["code"]) == (429, "queue_full")
    assert "Retry-After: 1" in head
    assert (await asked(await connect(server.port, "127.0.0.3"), upload(wav(1))))[0] == 200
    waiting[0][1].close()

    async def is_served() -> bool:
        return (await asked(await connect(server.port, "127.0.0.2"), upload(wav(1))))[0] == 200

    await until(is_served)


async def test_behind_a_trusted_proxy_each_client_has_its_own_limit(start: Start, connect: Connect) -> None:
    limits = {"max_client_requests": 1, "max_client_connections": 1, "min_upload_rate": 0}
    client = await start(limits=limits, access={"trusted_proxies": ["127.0.0.1"]})
    _, writer = await connect(client.port)
    held = upload(wav(1))[:-5_000].replace(b"\r\n", b"\r\nX-Forwarded-For: 192.0.2.1\r\n", 1)
    writer.write(held)
    await until(lambda: bool(spool(client)))
    for forwarded, status in (("192.0.2.1", 429), ("192.0.2.2", 200), ("2001:db8::1", 200)):
        got = await client.get(f"{API}/tasks", headers={"X-Forwarded-For": forwarded})
        assert got.status == status
    writer.close()
