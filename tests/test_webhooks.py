"""Callbacks, sent to a server of the test's own."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver
from aiohttp.test_utils import TestServer
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from diarserve.core.task_settings import Webhooks as Settings
from diarserve.tasks import signing
from diarserve.tasks.webhooks import next_attempt
from tests.support.app import Recording, Start, store, submit
from tests.support.waiting import until

SECRET = "a secret"
PRIVATE_ALLOWED = {"secret": SECRET, "allow_private": True}


@dataclass
class Listener:
    """Answers callbacks with `answers` in turn, then 200."""

    url: str = ""
    answers: list[web.Response] = field(default_factory=list)
    calls: list[tuple[dict[str, str], bytes]] = field(default_factory=list)  # headers, body
    strays: int = 0  # where a redirect would lead


@pytest.fixture
async def listener(aiohttp_server: Callable[[web.Application], Awaitable[TestServer]]) -> Listener:
    made = Listener()

    async def hear(request: web.Request) -> web.Response:
        made.calls.append((dict(request.headers), await request.read()))
        return made.answers.pop(0) if made.answers else web.Response()

    async def stray(request: web.Request) -> web.Response:
        made.strays += 1
        return web.Response()

    application = web.Application()
    application.router.add_post("/hook", hear)
    application.router.add_route("*", "/elsewhere", stray)
    made.url = str((await aiohttp_server(application)).make_url("/hook"))
    return made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diarserve.tasks.webhooks._FIRST_PAUSE", 0.0)


async def state(client: Any, id: str) -> tuple[str, int]:
    """What became of the callback, and how often it was tried."""
    held = store(client)
    async with held._lock:
        [row] = await held._execute("SELECT callback_state, callback_attempts FROM tasks WHERE id = ?", id)
    return row[0], row[1]


async def state_of(client: Any, id: str) -> tuple[str, int]:
    async def is_settled() -> bool:
        return (await state(client, id))[0] in ("sent", "given up")

    await until(is_settled)
    return await state(client, id)


async def test_an_ended_task_is_told_and_signed(start: Start, recording: Recording, listener: Listener) -> None:
    client = await start(webhooks=PRIVATE_ALLOWED)
    good = await submit(client, recording(2), callback_url=listener.url)
    assert await state_of(client, good) == ("sent", 1)
    bad = await submit(client, recording(2, "refuse whisper"), callback_url=listener.url)
    assert await state_of(client, bad) == ("sent", 1)
    assert len(listener.calls) == 2
    for (headers, body), id, status in zip(listener.calls, (good, bad), ("completed", "failed"), strict=True):
        signed = headers["X-Diarserve-Signature"]
        told = orjson.loads(body)
        assert told["event"] == f"task.{status}"
        assert (told["status"]["task_id"], told["status"]["status"]) == (id, status)
        moment, digest = (part.partition("=")[2] for part in signed.split(","))
        expected = hmac.new(SECRET.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(digest, expected)


async def test_a_callback_that_fails_is_made_again(start: Start, recording: Recording, listener: Listener) -> None:
    client = await start(webhooks=PRIVATE_ALLOWED)
    listener.answers = [web.Response(status=500), web.Response(status=404)]
    id = await submit(client, recording(1), callback_url=listener.url)
    assert await state_of(client, id) == ("sent", 3)
    assert len({body for _, body in listener.calls}) == 1
    assert {headers["webhook-id"] for headers, _ in listener.calls} == {id}


async def test_redirects_are_not_followed_and_attempts_end(
    start: Start, recording: Recording, listener: Listener
) -> None:
    client = await start(webhooks=PRIVATE_ALLOWED | {"retry_hours": 1e-9})
    listener.answers = [web.Response(status=307, headers={"Location": "/elsewhere"})]
    id = await submit(client, recording(1), callback_url=listener.url)
    assert await state_of(client, id) == ("given up", 1)
    assert (len(listener.calls), listener.strays) == (1, 0)


async def test_a_receiver_that_is_gone_is_not_called_again(
    start: Start, recording: Recording, listener: Listener
) -> None:
    client = await start(webhooks=PRIVATE_ALLOWED)
    listener.answers = [web.Response(status=410)]
    id = await submit(client, recording(1), callback_url=listener.url)
    assert await state_of(client, id) == ("given up", 1)


async def test_an_address_that_never_answers_delays_only_itself(
    start: Start, recording: Recording, listener: Listener
) -> None:
    calls = 0

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        await reader.read()  # until the caller goes away
        writer.close()

    async with await asyncio.start_server(never, "127.0.0.1", 0) as silent:
        client = await start(webhooks=PRIVATE_ALLOWED | {"timeout": 3600})
        url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/hook"
        for _ in range(25):
            await submit(client, recording(1), callback_url=url)
        await until(lambda: calls == 4)  # as many as one address may hold
        id = await submit(client, recording(1), callback_url=listener.url)
        assert await state_of(client, id) == ("sent", 1)
        assert calls == 4
        await client.close()
        silent.close()


@pytest.mark.parametrize("secret", ["any text", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
async def test_a_callback_is_verified_by_the_standards_own_library(
    start: Start, recording: Recording, listener: Listener, secret: str
) -> None:
    client = await start(webhooks=PRIVATE_ALLOWED | {"secret": secret})
    id = await submit(client, recording(1), callback_url=listener.url)
    await state_of(client, id)
    [(headers, body)] = listener.calls
    receiver = Webhook(secret if secret.startswith("whsec_") else secret.encode())
    assert receiver.verify(body, headers)["status"]["task_id"] == id
    with pytest.raises(WebhookVerificationError):
        receiver.verify(body + b" ", headers)


def test_a_secret_that_only_looks_like_a_standard_one_is_refused() -> None:
    for secret in ("whsec_", "whsec_no base64!"):
        with pytest.raises(ValueError, match="base64"):
            Settings(secret=secret)


def test_attempts_go_on_for_a_day_at_growing_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the pause that `impatient` takes away
    day, times = 24 * 3600.0, [0.0]
    while (at := next_attempt(0.0, len(times), times[-1], retry_seconds=day, jitter=0.5)) is not None:
        times.append(at)
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses == [min(2.0 * 2**number, 3600.0) for number in range(len(pauses))]
    assert day - 3600 < times[-1] <= day
    assert next_attempt(0.0, 1, 100.0, retry_seconds=day, jitter=0.0) == 101.0
    assert next_attempt(0.0, 1, 100.0, retry_seconds=day, jitter=1.0) == 103.0
    assert next_attempt(0.0, 10_000, 0.0, retry_seconds=day, jitter=0.0) == 1800.0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]", "[::ffff:127.0.0.1]"])
async def test_nothing_private_is_called(start: Start, recording: Recording, listener: Listener, host: str) -> None:
    client = await start()
    url = listener.url.replace("127.0.0.1", host)
    id = await submit(client, recording(1), callback_url=url)
    assert await state_of(client, id) == ("given up", 1)
    assert listener.calls == []


@pytest.mark.parametrize("address", ["10.0.0.1", "64:ff9b:1::7f00:1", "::ffff:0:7f00:1", "3fff::1"])
async def test_a_name_that_means_a_private_address_is_not_called(
    start: Start, recording: Recording, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """That nothing is connected to is seen by tests.support.loopback_only."""

    async def resolve(self: ThreadedResolver, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        assert host == "hooks.example"
        return [ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)]

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    client = await start()
    id = await submit(client, recording(1), callback_url="https://hooks.example/")
    assert await state_of(client, id) == ("given up", 1)


async def test_a_queued_task_that_is_cancelled_is_told(start: Start, recording: Recording, listener: Listener) -> None:
    client = await start(webhooks=PRIVATE_ALLOWED, limits={"running": 1}, whisper={"step_seconds": 0.05})
    await submit(client, recording(1000))
    id = await submit(client, recording(1), callback_url=listener.url)
    await client.delete(f"/api/v1/parallel/tasks/{id}")
    await until(lambda: len(listener.calls) == 1)
    assert orjson.loads(listener.calls[0][1])["event"] == "task.cancelled"


def test_without_a_secret_nothing_is_signed() -> None:
    assert signing.headers("", "id", b"x", 7.9) == {"webhook-id": "id", "webhook-timestamp": "7"}
