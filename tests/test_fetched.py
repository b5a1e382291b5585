"""Recordings that a client names by a URL."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from diarserve.core.settings import Settings
from tests.support.app import TRANSCRIBE, Client, Start, error, reached, spool, wav

ON = {"fetch": {"enabled": True, "allow_private": True}}


@asynccontextmanager
async def elsewhere() -> AsyncIterator[tuple[TestServer, list[str]]]:
    """A server with recordings, and the paths that it was asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        assert request.headers["Accept-Encoding"] == "identity"
        match request.path:
            case "/calls/one.wav":
                return web.Response(body=wav(2))
            case "/moved":
                raise web.HTTPFound("/calls/one.wav")
            case "/round":
                raise web.HTTPFound("/round")
            case "/file":
                raise web.HTTPFound("file:///etc/passwd")
            case "/page":
                return web.Response(text="<html>" + " " * 100_000)
            case "/torn":
                torn = web.StreamResponse(headers={"Content-Length": "64044"})
                await torn.prepare(request)
                await torn.write(wav(2)[:40_000])
                assert request.transport is not None
                request.transport.abort()
                return torn
            case "/slow":
                slow = web.StreamResponse()
                await slow.prepare(request)
                with suppress(ConnectionError):  # once the client has left
                    while True:
                        await slow.write(wav(1)[:100])
                        await asyncio.sleep(0.02)
                return slow
            case "/huge":
                huge = web.StreamResponse()
                await huge.prepare(request)
                await huge.write(wav(40))
                return huge
        raise web.HTTPNotFound

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    server = TestServer(app)
    await server.start_server()
    try:
        yield server, asked
    finally:
        await server.close()


async def fetched(client: Client, url: object, path: str = TRANSCRIBE) -> tuple[int, str]:
    return await error(await client.post(path, json={"url": str(url)}))


async def test_nothing_is_fetched_unless_the_settings_say_so(start: Start) -> None:
    client = await start()
    async with elsewhere() as (server, asked):
        for path in (TRANSCRIBE, f"{TRANSCRIBE}/async", "/v1/listen"):
            assert await fetched(client, server.make_url("/calls/one.wav"), path) == (400, "url_not_supported")
    assert asked == []
    assert spool(client) == []
    assert not Settings.model_fields["fetch"].default.enabled


async def test_a_recording_is_fetched_and_transcribed_as_if_it_was_sent(start: Start) -> None:
    client = await start(**ON)
    async with elsewhere() as (server, asked):
        body = {"url": str(server.make_url("/moved"))}
        heard = await (await client.post(TRANSCRIBE, params={"language": "de"}, json=body)).json()
        assert (heard["text"], heard["language"], heard["filename"]) == ("w0 w1", "de", "moved")
        body = {"url": str(server.make_url("/calls/one.wav"))}
        queued = await client.post(f"{TRANSCRIBE}/async", json=body)
        task = await reached(client, (await queued.json())["task_id"], "completed")
        assert task["filename"] == "one.wav"
        listened = await (await client.post("/v1/listen", json=body)).json()
        assert listened["results"]["channels"][0]["alternatives"][0]["transcript"] == "w0 w1"
    assert asked == ["/moved", *["/calls/one.wav"] * 3]


@pytest.mark.parametrize("path", [TRANSCRIBE, "/v1/listen"])
async def test_what_cannot_be_fetched_is_said_and_leaves_nothing(start: Start, path: str) -> None:
    client = await start(**ON, limits={"max_upload_mib": 1, "reserve_mib": 0})
    async with elsewhere() as (server, asked):
        for name, status, code in (
            ("/nothing", 400, "fetch_failed"),
            ("/round", 400, "fetch_failed"),
            ("/file", 400, "invalid_request"),
            ("/torn", 400, "fetch_failed"),
            ("/page", 415, "unsupported_media"),
            ("/huge", 413, "too_large"),
        ):
            assert await fetched(client, server.make_url(name), path) == (status, code), name
            assert spool(client) == []
        assert asked.count("/round") == 6
    for url in ("ftp://example.org/a.wav", "call.wav", "http://", "http://[", f"http://a/{'x' * 2000}", "file:///etc"):
        assert await fetched(client, url, path) == (400, "invalid_request"), url
    assert await fetched(client, "http://127.0.0.1:9/a.wav", path) == (400, "fetch_failed")
    bodies: list[Any] = [{"link": "http://a"}, {"url": 1}, [], {"url": "http://a", "language": "en"}]
    for body in bodies:
        assert await error(await client.post(path, json=body)) == (400, "invalid_request")
    assert spool(client) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "169.254.169.254"])
async def test_private_addresses_are_never_asked(start: Start, host: str) -> None:
    client = await start(fetch={"enabled": True})
    async with elsewhere() as (server, asked):
        answer = await client.post(TRANSCRIBE, json={"url": f"http://{host}:{server.port}/calls/one.wav"})
        assert await error(answer) == (400, "fetch_failed")
        assert "no public address" in await answer.text()
    assert asked == []
    assert spool(client) == []


async def test_a_server_that_sends_too_slowly_is_left(start: Start) -> None:
    client = await start(**ON, limits={"reserve_mib": 0, "upload_rate_window": 0.2, "min_upload_rate": 10_000_000})
    async with elsewhere() as (server, _):
        assert await fetched(client, server.make_url("/slow")) == (400, "fetch_failed")
    assert spool(client) == []


async def test_a_server_that_falls_silent_is_left(start: Start) -> None:
    client = await start(fetch={"enabled": True, "allow_private": True, "timeout": 0.2})
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and never answers
        assert await fetched(client, f"http://127.0.0.1:{silent.getsockname()[1]}/a.wav") == (400, "fetch_failed")
    assert spool(client) == []
