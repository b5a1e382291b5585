"""Access keys: who is let in, what each role may do, whose tasks one sees, and how much a key may ask."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import openai
import orjson
import pytest
from aiohttp import ClientResponse, FormData

from diarserve.access import key_file, keys
from diarserve.access.audio_quota import DAY, AudioQuota
from diarserve.access.keyring import Keyring
from diarserve.core.configuration import ConfigError, load
from diarserve.core.errors import RateLimited
from diarserve.core.settings import Settings
from diarserve.http import app, sse
from diarserve.http.openapi import document as openapi
from tests.support.app import API, TRANSCRIBE, Client, Start, error, form, wav
from tests.support.serving import serving
from tests.support.waiting import until

SECRETS = {name: "dsk_" + name.ljust(43, "0") for name in ("alice", "bob", "reader", "watcher", "root")}
ROLES = {"alice": "submit", "bob": "submit", "reader": "read", "watcher": "metrics", "root": "admin"}


def entries(**more: dict[str, Any]) -> list[dict[str, Any]]:
    """A key for each name; `reader` shares the tasks of alice."""
    shared = {"reader": {"tasks_of": "alice"}}
    return [
        {"name": name, "role": ROLES[name], "key": secret, **shared.get(name, {}), **more.get(name, {})}
        for name, secret in SECRETS.items()
    ]


def as_(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {SECRETS[name]}"}


async def keyed(start: Start, **more: dict[str, Any]) -> Client:
    return await start(access={"keys": entries(**more)})


async def task(client: Client, name: str, data: bytes | None = None, *, idempotency_key: str = "") -> str:
    headers = {**as_(name), "Idempotency-Key": idempotency_key}
    answer = await client.post(f"{TRANSCRIBE}/async", data=form(data or wav(1)), headers=headers)
    assert answer.status == 202, await answer.text()
    id: str = (await answer.json())["task_id"]
    return id


async def batch(client: Client, name: str) -> tuple[str, list[str]]:
    data = FormData(quote_fields=False)
    for number in range(2):
        data.add_field("files", wav(1), filename=f"{number}.wav")
    body = await (await client.post(f"{API}/batch/async", data=data, headers=as_(name))).json()
    return body["batch_id"], [one["task_id"] for one in body["tasks"]]


def operations() -> list[tuple[str, str, bool]]:
    """Method, path, and whether a key is needed, of everything that the OpenAPI document has."""
    paths = openapi.document(app.TABLES, keyed=True)["paths"]
    return [
        (method, path, bool(operation["security"]))
        for path, item in paths.items()
        for method, operation in item.items()
    ]


async def test_without_a_key_nothing_but_probes_and_the_document_is_answered(start: Start) -> None:
    client = await keyed(start)
    for method, path, needs_key in operations():
        for headers in ({}, {"Authorization": "Bearer dsk_" + "x" * 43}, {"X-API-Key": SECRETS["bob"][:-1]}):
            answer = await client.request(method, re.sub("{.*}", "x", path), headers=headers)
            assert (answer.status == 401) == needs_key, (method, path)
            if needs_key:
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                assert await error(answer) == (401, "unauthorized")
                if path != "/v1/listen":  # Deepgram's shape
                    assert ("type" in (await answer.json())["error"]) == path.startswith("/v1/")  # OpenAI's shape
    assert {path for _, path, needs_key in operations() if not needs_key} == {
        "/livez", "/readyz", "/openapi.json", "/docs", "/docs/start.js", "/docs/{file}",
        "/", "/status", "/web/{file}",  # the pages, which ask for a key themselves
    }  # fmt: skip
    assert (await client.get("/nowhere")).status == 401
    assert (await client.get("/nowhere", headers=as_("bob"))).status == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Authorization", "Bearer {}"),
        ("authorization", "bearer {}"),
        ("Authorization", "Token {}"),
        ("X-API-Key", "{}"),
    ],
)
async def test_a_key_may_come_in_three_fields(start: Start, field: str, value: str) -> None:
    client = await keyed(start)
    headers = {field: value.format(SECRETS["bob"])}
    assert (await client.get(f"{API}/tasks", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("alice", {"read", "submit"}),
        ("reader", {"read"}),
        ("watcher", {"metrics"}),
        ("root", {"read", "submit", "metrics"}),
    ],
)
async def test_a_role_may_do_what_is_documented(start: Start, name: str, allowed: set[str]) -> None:
    client = await keyed(start)
    needs = {
        f"GET {API}/tasks": "read",
        f"GET {API}/features": "read",
        "GET /v1/models": "read",
        f"GET {API}/status/x": "read",
        f"GET {API}/result/x": "read",
        f"GET {API}/events/x": "read",
        f"GET {API}/batches/x": "read",
        f"POST {TRANSCRIBE}": "submit",
        f"POST {API}/batch": "submit",
        f"POST {TRANSCRIBE}/async": "submit",
        f"POST {API}/batch/async": "submit",
        "POST /v1/audio/transcriptions": "submit",
        "POST /v1/audio/translations": "submit",
        f"DELETE {API}/tasks/x": "submit",
        "GET /metrics": "metrics",
        "GET /stats": "metrics",
        f"GET {API}/stats": "metrics",
    }
    for asked, scope in needs.items():
        answer = await client.request(*asked.split(), headers=as_(name))
        assert (answer.status != 403) == (scope in allowed), (asked, answer.status)
        if answer.status == 403:
            assert await error(answer) == (403, "forbidden")


async def test_no_endpoint_shows_anybody_elses_tasks(start: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    client = await start(access={"keys": entries()}, whisper={"gate": str(gate)})
    batch_id, ids = await batch(client, "alice")
    ids.append(await task(client, "alice"))
    waiting = asyncio.create_task(client.post(TRANSCRIBE, data=form(wav(1)), headers=as_("alice")))

    async def active() -> list[str]:
        stats = await (await client.get("/stats", headers=as_("root"))).json()
        return [one["task_id"] for one in stats["active_tasks"]]

    await until(lambda: _is_longer(active, 3))
    ids += await active()
    for method, path, needs_key in operations():
        if not needs_key:
            continue
        names = {
            "task_id": ids[0],
            "batch_id": batch_id,
            "model": ids[0],
            "voice_id": ids[0],
            "lane": "whisper",
            "key": "0" * 16,
        }
        for name in ("bob", "watcher"):
            answer = await client.request(method, path.format(**names), headers=as_(name))
            if "_id}" in path:
                assert answer.status == (404 if name == "bob" else 403), (method, path)
            if method == "get":
                shown = await answer.text()
                assert not any(f'"{id}"' in shown for id in (*ids[1:], batch_id)), path
    others = {"status": "queued", "batch_id": batch_id, "before": ids[0]}
    for name, value in others.items():
        listed = await (await client.get(f"{API}/tasks", params={name: value}, headers=as_("bob"))).json()
        assert listed["tasks"] == []
    # Nothing of this has harmed the tasks, and their owner, who shares them, and an administrator see them.
    gate.unlink()
    assert (await waiting).status == 200
    for name in ("alice", "reader", "root"):
        for id in ids[:3]:
            assert (await client.get(f"{API}/status/{id}", headers=as_(name))).status == 200
        assert (await client.get(f"{API}/batches/{batch_id}", headers=as_(name))).status == 200
        listed = await (await client.get(f"{API}/tasks", headers=as_(name))).json()
        assert {one["task_id"] for one in listed["tasks"]} == set(ids[:3])


async def _is_longer(active: Callable[[], Any], length: int) -> bool:
    return len(await active()) >= length


async def test_an_administrator_cancels_anybodys_task_and_a_reader_nobodys(start: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    client = await start(access={"keys": entries()}, whisper={"gate": str(gate)})
    id = await task(client, "alice")
    assert (await client.delete(f"{API}/tasks/{id}", headers=as_("reader"))).status == 403
    assert (await client.delete(f"{API}/tasks/{id}", headers=as_("root"))).status == 200
    gate.unlink()
    assert (await client.get(f"{API}/result/{id}", headers=as_("alice"))).status != 200


async def test_an_idempotency_key_is_its_access_keys(start: Start) -> None:
    client = await keyed(start)
    first = await task(client, "alice", idempotency_key="1")
    assert await task(client, "bob", idempotency_key="1") != first
    assert await task(client, "alice", idempotency_key="1") == first


def test_openais_client_gets_in_with_the_key_and_learns_why_without(settings: Callable[..., Settings]) -> None:
    with serving(settings(access={"keys": entries()})) as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key=SECRETS["alice"], max_retries=0) as client:
            said = client.audio.transcriptions.create(model="whisper-1", file=("call.wav", wav(2)))
            assert said.text == "w0 w1"
        with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-other", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                client.models.list()
            assert refused.value.code == "unauthorized"
        with (
            openai.OpenAI(base_url=f"{url}/v1", api_key=SECRETS["reader"], max_retries=0) as client,
            pytest.raises(openai.PermissionDeniedError),
        ):
            client.audio.transcriptions.create(model="whisper-1", file=("call.wav", wav(2)))


async def test_keys_come_and_go_while_the_server_runs(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    client = await start(access={"keys_file": str(file)})
    assert (await client.get("/stats")).status == 200

    async def status(secret: str = "") -> int:
        headers = {"X-API-Key": secret} if secret else None
        return (await client.get("/stats", headers=headers)).status

    _, secret = await asyncio.to_thread(key_file.add, file, "root", "admin")
    await until(lambda: _is(status(), 401))  # from the first key on
    assert await status(secret) == 200
    before = file.read_text()
    file.write_text("nonsense")  # the keys stay as they were
    _, later = _added(file, tmp_path / "other.json", before)
    await until(lambda: _is(status(later), 200))
    await asyncio.to_thread(key_file.revoke, file, "root")
    await until(lambda: _is(status(secret), 401))
    file.unlink()
    await until(lambda: _is(status(later), 401))
    assert await status() == 401  # a file that is gone opens nothing


async def test_the_stream_of_a_revoked_key_ends(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT", 0.05)
    gate = tmp_path / "gate"
    gate.touch()
    file = tmp_path / "keys.json"
    _, secret = key_file.add(file, "app", "submit")
    client = await start(access={"keys_file": str(file)}, whisper={"gate": str(gate)})
    headers = {"X-API-Key": secret}
    submitted = await client.post(f"{TRANSCRIBE}/async", data=form(wav(1)), headers=headers)
    id = (await submitted.json())["task_id"]
    events = await client.get(f"{API}/events/{id}", headers=headers)
    await events.content.readline()
    await asyncio.to_thread(key_file.revoke, file, "app")
    with contextlib.suppress(aiohttp.ClientError):  # cut off
        async with asyncio.timeout(30):
            await events.content.read()
    gate.unlink()


def _added(file: Path, other: Path, before: str) -> tuple[Any, str]:
    other.write_text(before)
    added = key_file.add(other, "later", "admin")
    other.replace(file)
    return added


async def _is(status: Any, wanted: int) -> bool:
    return bool(await status == wanted)


async def test_more_requests_than_a_key_may_make_are_429(start: Start) -> None:
    client = await keyed(start, bob={"requests_per_minute": 3})
    statuses = [(await client.get("/v1/models", headers=as_("bob"))).status for _ in range(3)]
    assert statuses == [200, 200, 200]
    answer = await client.get("/v1/models", headers=as_("bob"))
    assert await error(answer) == (429, "rate_limited")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert (await client.get("/v1/models", headers=as_("alice"))).status == 200


async def test_more_requests_at_a_time_than_a_key_may_make_are_429(start: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    client = await start(access={"keys": entries(bob={"concurrent": 1})}, whisper={"gate": str(gate)})
    waiting = asyncio.create_task(client.post(TRANSCRIBE, data=form(wav(1)), headers=as_("bob")))

    async def refused() -> bool:
        return (await client.get("/v1/models", headers=as_("bob"))).status == 429

    await until(refused)
    assert "Retry-After" in (await client.get("/v1/models", headers=as_("bob"))).headers
    assert (await client.get("/v1/models", headers=as_("alice"))).status == 200
    gate.unlink()
    assert (await waiting).status == 200
    assert (await client.get("/v1/models", headers=as_("bob"))).status == 200


async def test_more_audio_than_a_key_may_send_is_429(start: Start) -> None:
    client = await keyed(start, bob={"audio_hours_per_day": 7.5 / 3600})

    async def send(seconds: int, order: str = "") -> ClientResponse:
        return await client.post(TRANSCRIBE, data=form(wav(seconds, order)), headers=as_("bob"))

    assert (await send(3)).status == 200
    refused = await send(5)
    assert await error(refused) == (429, "rate_limited")
    assert int(refused.headers["Retry-After"]) > 3600
    assert (await send(2, "refuse whisper")).status == 422  # which counts as nothing
    first = await task(client, "bob", wav(2), idempotency_key="1")
    assert await task(client, "bob", wav(2), idempotency_key="1") == first
    assert (await send(2)).status == 200  # the same task again has taken nothing
    assert await error(await send(1)) == (429, "rate_limited")


def test_audio_counts_for_a_day_with_its_true_length() -> None:
    now = 0.0
    quota = AudioQuota(lambda: now)
    quota.reserve("bob", "a", 0, hours=1)  # not known before it is decoded
    quota.settle("bob", "a", 3000)
    now = 600
    with pytest.raises(RateLimited) as refused:
        quota.reserve("bob", "b", 700, hours=1)
    assert refused.value.retry_after == DAY - 600
    quota.reserve("bob", "b", 600, hours=1)
    quota.release("bob", "b")
    assert quota.used("bob") == 3000
    quota.release("bob", "a")  # settled: it counts
    assert quota.used("bob") == 3000
    assert quota.used("alice") == 0
    now = DAY + 1
    assert quota.used("bob") == 0


def test_a_key_is_kept_as_its_hash_in_a_file_for_the_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "data" / "keys.json"
    key, secret = key_file.add(file, "app", "submit", requests_per_minute=9)
    assert len(secret) == 47
    assert secret not in file.read_text()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    [read] = key_file.read(file)
    assert (read, keys.digest(secret)) == (key, read.sha256)
    for name in ("app", "", "../app", "x" * 65):
        with pytest.raises(ConfigError):
            key_file.add(file, name, "submit")
    assert key_file.revoke(file, "app").revoked
    with pytest.raises(ConfigError, match="no key 'app' in use"):
        key_file.revoke(file, "app")
    _, again = key_file.add(file, "app", "submit", tasks_of="app")  # takes over the tasks of the one that was revoked
    found = keys.find(keys.live(key_file.read(file)), again)
    assert found is not None
    assert found.owner == keys.id_of(key) != found.id
    assert keys.find(keys.live(key_file.read(file)), secret) is None


def test_keys_come_from_the_environment_and_no_message_shows_them(tmp_path: Path) -> None:
    entry = {"name": "app", "role": "submit", "key": SECRETS["alice"]}

    def loaded(**changes: str) -> Settings:
        text = orjson.dumps([{**entry, **changes}]).decode()
        return load(environment={"DIARSERVE_ACCESS_KEYS": text, "DIARSERVE_DATA_DIR": str(tmp_path)})

    settings = loaded()
    found = Keyring(settings).find(SECRETS["alice"])
    assert found is not None
    assert (found.name, found.role) == ("app", "submit")
    assert Keyring(settings).find(SECRETS["bob"]) is None
    assert SECRETS["alice"] not in repr(settings)
    for changes in ({"role": "king"}, {"key": SECRETS["alice"] + "x"}, {"colour": "red"}):
        with pytest.raises(ConfigError) as wrong:
            loaded(**changes)
        assert "access.keys" in str(wrong.value)
        assert SECRETS["alice"] not in str(wrong.value)


def test_a_keys_file_that_cannot_be_read_stops_the_start(settings: Callable[..., Settings], tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    for text in ("nonsense", '{"keys": [{"name": "a", "role": "king", "sha256": ""}]}', '{"keys": [{"name": "a"}]}'):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"keys\.json"):
            Keyring(settings(access={"keys_file": str(file)}))
