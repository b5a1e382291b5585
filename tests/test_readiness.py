"""A lane that cannot start fails the requests that need it, and no others. Stand-in engines in real processes."""

from __future__ import annotations

from typing import Any

import pytest

from diarserve.http import context
from diarserve.service.service import Service
from tests.support.app import (
    ALIGN,
    SEPARATE,
    TRANSCRIBE,
    Recording,
    Start,
    document,
    error,
    form,
    reached,
    submit,
)

BROKEN = {"boot": "fail"}
REASON = "RuntimeError: no such model"


def diarizer(name: str, **options: Any) -> dict[str, Any]:
    return {"engine": "tests.support.standins:Diarizer", "limits": {"model": name}, **options}


async def test_optional_lanes_that_cannot_start_leave_everything_else_alone(start: Start, recording: Recording) -> None:
    client = await start(separate=SEPARATE | BROKEN, align=ALIGN | BROKEN)
    ready = await client.get("/readyz")
    body = await ready.json()
    assert (ready.status, body["status"]) == (200, "ready")
    assert (body["lanes"]["whisper"], body["lanes"]["separate"], body["lanes"]["align"]) == ("ready", REASON, REASON)
    assert (await document(client, form(recording())))["text"] == "w0 w1"
    await reached(client, await submit(client, recording()), "completed")


@pytest.mark.parametrize(("option", "lane"), [("source_separation", "separate"), ("enhanced_alignment", "align")])
@pytest.mark.parametrize("path", ["", "/async"])
async def test_a_request_that_needs_a_lane_that_cannot_start_is_refused(
    start: Start, recording: Recording, option: str, lane: str, path: str
) -> None:
    client = await start(separate=SEPARATE | BROKEN, align=ALIGN | BROKEN)
    refused = await client.post(TRANSCRIBE + path, data=form(recording(), **{option: "true"}))
    assert await error(refused) == (503, "not_ready")
    assert f"The {lane} worker" in await refused.text()


async def test_a_task_accepted_before_its_lane_was_halted_fails_and_holds_up_nothing(
    start: Start, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start(separate=SEPARATE | BROKEN, limits={"running": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Service, "check", lambda *asked: None)  # as it is while the lane may yet start
        needs_it = await submit(client, recording(), source_separation="true")
    plain = await submit(client, recording())
    await reached(client, needs_it, "failed")
    await reached(client, plain, "completed")
    result = await client.get(f"/api/v1/parallel/result/{needs_it}")
    assert await error(result) == (503, "not_ready")


async def test_of_several_diarizers_one_may_be_halted(start: Start, recording: Recording) -> None:
    client = await start(embedded=None, sortformer=diarizer("sortformer", **BROKEN), clustering=diarizer("clustering"))
    ready = await client.get("/readyz")
    assert (ready.status, (await ready.json())["lanes"]["sortformer"]) == (200, REASON)
    assert (await document(client, form(recording())))["models"]["diarization"] == "clustering"
    refused = await client.post(TRANSCRIBE, data=form(recording(), diarizer="sortformer"))
    assert await error(refused) == (503, "not_ready")
    assert "The sortformer worker" in await refused.text()


@pytest.mark.parametrize("default", ["auto", "sortformer"])
async def test_without_a_diarizer_for_plain_requests_the_server_is_not_ready(
    start: Start, recording: Recording, default: str
) -> None:
    others = {} if default == "auto" else {"clustering": diarizer("clustering")}
    client = await start(diarizer=default, embedded=None, sortformer=diarizer("sortformer", **BROKEN), **others)
    assert (await client.get("/readyz")).status == 503
    assert await error(await client.post(TRANSCRIBE, data=form(recording()))) == (503, "not_ready")
    with pytest.raises(Exception, match="sortformer worker cannot start: RuntimeError: no such model"):
        await client.app[context.SERVICE].wait_ready()
