"""What web pages may ask, and under which names the server may be asked; what answers say to browsers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.app import API, TRANSCRIBE, Start, error, form, submit, wav

PAGE = "https://app.example.org"
KEY = "dsk_" + "k" * 43
KEYS = [{"name": "app", "role": "submit", "key": KEY}]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:8000", True), ("127.0.0.1", True), ("127.9.9.9:1", True), ("[::1]:8000", True),
        ("LOCALHOST.", True), ("diarserve.lan:8000", True),
        ("evil.example", False), ("localhost.evil.example", False), ("127.0.0.1.evil.example:8000", False),
        ("0.0.0.0:8000", False), ("192.168.1.5:8000", False), ("", False), ("[", False),
    ],
)  # fmt: skip
async def test_without_keys_loopback_has_only_its_own_names(start: Start, host: str, expected: bool) -> None:
    client = await start(wait=False, access={"hosts": ["diarserve.lan"]})
    for path in ("/livez", "/v1/models", f"{API}/tasks", "/docs", "/metrics"):
        answer = await client.get(path, headers={"Host": host})
        assert (answer.status == 200) == expected, path
        if not expected:
            assert await error(answer) == (421, "misdirected")


async def test_a_key_is_enough_under_whatever_name(start: Start) -> None:
    client = await start(wait=False, access={"keys": KEYS})
    answer = await client.get(f"{API}/tasks", headers={"Host": "diarserve.example", "X-API-Key": KEY})
    assert answer.status == 200


async def test_an_open_server_on_a_network_has_any_name(start: Start) -> None:
    client = await start(wait=False, host="0.0.0.0", access={"open": True})
    assert (await client.get("/livez", headers={"Host": "diarserve.example"})).status == 200


async def test_a_server_on_a_network_has_its_hosts_alone_and_its_own_address(start: Start) -> None:
    client = await start(wait=False, host="0.0.0.0", access={"open": True, "hosts": ["diarserve.example"]})
    for host, status in (("diarserve.example", 200), (f"127.0.0.1:{client.port}", 200), ("evil.example", 421)):
        assert (await client.get("/livez", headers={"Host": host})).status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),  # no browser
        ({"Origin": "http://localhost:{port}", "Host": "localhost:{port}"}, 202),
        ({"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Origin": PAGE}, 202),  # listed
        ({"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}, 202),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://localhost:3000", "Host": "localhost:{port}"}, 403),
        ({"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_without_keys_pages_of_others_change_nothing(start: Start, headers: dict[str, str], status: int) -> None:
    client = await start(access={"origins": [PAGE]})
    headers = {name: value.format(port=client.port) for name, value in headers.items()}
    answer = await client.post(f"{TRANSCRIBE}/async", data=form(wav(1)), headers=headers)
    assert answer.status == status
    listed = await (await client.get(f"{API}/tasks")).json()
    assert len(listed["tasks"]) == (status == 202)
    if status == 403:
        assert await error(answer) == (403, "forbidden")
        assert (await client.delete(f"{API}/tasks/x", headers=headers)).status == 403
        assert (await client.get(f"{API}/tasks", headers=headers)).status == 200  # which the page cannot read


async def test_a_key_is_enough_whatever_page_asks(start: Start) -> None:
    client = await start(access={"keys": KEYS})
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "X-API-Key": KEY}
    assert (await client.post(f"{TRANSCRIBE}/async", data=form(wav(1)), headers=headers)).status == 202


@pytest.mark.parametrize("keyed", [False, True])
async def test_pages_of_listed_origins_may_read(start: Start, keyed: bool) -> None:
    client = await start(access={"origins": [PAGE], "keys": KEYS if keyed else []})
    key = {"Authorization": f"Bearer {KEY}"}
    preflight = await client.options(
        f"{TRANSCRIBE}/async",
        headers={
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,idempotency-key",
        },
    )
    assert preflight.status == 204
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert preflight.headers["Access-Control-Allow-Headers"] == "authorization,idempotency-key"
    id = await submit(client, wav(1), {**key, "Origin": PAGE})
    for path in (f"{API}/status/{id}", f"{API}/events/{id}", f"{API}/result/{id}", f"{API}/status/x", "/nowhere"):
        answer = await client.get(path, headers={**key, "Origin": PAGE})
        await answer.read()
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origins", [[], [PAGE]])
async def test_no_other_page_may_read(start: Start, origins: list[str]) -> None:
    client = await start(wait=False, access={"origins": origins})
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    for method, status in (("OPTIONS", 405), ("GET", 200)):
        answer = await client.request(method, f"{API}/tasks", headers=asked)
        assert answer.status == status
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("origin", ["*", "https://*.example.org", "app.example.org", "https://app.example.org/"])
def test_an_origin_is_one_page_of_one_server(settings: Any, origin: str) -> None:
    with pytest.raises(ValueError, match="origins"):
        settings(access={"origins": [origin]})


async def test_every_answer_says_how_browsers_are_to_take_it(start: Start, tmp_path: Path) -> None:
    client = await start()
    id = await submit(client, wav(1))
    for path in (f"{API}/events/{id}", f"{API}/result/{id}", "/v1/models", "/nowhere", "/docs", "/docs/swagger-ui.css"):
        answer = await client.get(path)
        await answer.read()
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == ("no-cache" if path.startswith("/docs") else "no-store")
        assert len(answer.headers.getall("Content-Security-Policy")) == 1
