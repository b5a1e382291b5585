"""Tasks whose clients come back for the result, with stand-in engines in real worker processes."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import FormData

from diarserve.service import pipeline
from diarserve.tasks.partial_transcript import PartialTranscript
from diarserve.transcript.document import Document
from diarserve.transcript.formats import FORMATS
from tests.support.app import (
    API,
    ENDED,
    SLOW,
    Client,
    Recording,
    Start,
    error,
    folders,
    form,
    jobs,
    metric,
    reached,
    service,
    status,
    store,
    submit,
)
from tests.support.waiting import until
from workers.messages import Word

# From submission to result


async def test_a_task_from_submission_to_result(start: Start, recording: Recording) -> None:
    client = await start(**SLOW)
    answer = await client.post(f"{API}/transcribe/async", data=form(recording(20), language="en"))
    body = await answer.json()
    id = body["task_id"]
    assert (answer.status, answer.headers["Location"]) == (202, f"{API}/status/{id}")
    assert body == {
        "task_id": id,
        "status": "queued",
        "status_url": f"{API}/status/{id}",
        "result_url": f"{API}/result/{id}",
        "events_url": f"{API}/events/{id}",
    }
    seen: list[dict[str, Any]] = []

    async def has_ended() -> bool:
        seen.append(await status(client, id))
        return seen[-1]["status"] in ENDED

    await until(has_ended, pause=0)
    assert {one["status"] for one in seen} <= {"queued", "processing", "completed"}
    progress = [one["progress"] for one in seen if one["status"] != "queued"]
    assert progress == sorted(progress)
    assert len(set(progress)) > 3
    last = seen[-1]
    assert (last["status"], last["progress"], last["stage"]) == ("completed", 100.0, "completed")
    assert last["stages"] == {"decode": 100.0, "transcribe": 100.0, "diarize": 100.0}
    assert (last["filename"], last["priority"], last["attempts"], last["error"]) == ("call 0.wav", "normal", 1, None)
    assert last["created_at"] <= last["started_at"] <= last["finished_at"]
    document = await (await client.get(f"{API}/result/{id}")).json()
    assert (document["task_id"], document["text"]) == (id, " ".join(f"w{n}" for n in range(20)))
    assert document["performance"]["parallel_processing"] is True
    assert folders(client) == set()


async def test_a_result_in_every_format(start: Start, recording: Recording) -> None:
    client = await start()
    id = await submit(client, recording(3), response_format="srt")
    await reached(client, id, "completed")
    for name in FORMATS:
        answer = await client.get(f"{API}/result/{id}", params={"format": name})
        assert answer.status == 200
        assert "SPEAKER_00" in await answer.text() or name == "ctm"
    default = await client.get(f"{API}/result/{id}")
    assert (await default.text()).startswith("1\n00:00:00,100 --> ")
    assert await error(await client.get(f"{API}/result/{id}?format=docx")) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"User-Agent": "curl/8"}, 202),
        ({"User-Agent": "python-requests/2.32"}, 200),
        ({"User-Agent": "python-requests/2.32", "Prefer": "respond-async"}, 202),
    ],
)
async def test_python_requests_is_answered_200(
    start: Start, recording: Recording, headers: dict[str, str], expected: int
) -> None:
    client = await start()
    for route in ("transcribe/async", "batch/async"):
        answer = await client.post(f"{API}/{route}", data=form(recording()), headers=headers)
        assert answer.status == expected


async def test_a_task_waits_its_turn_and_has_no_result_before(start: Start, recording: Recording) -> None:
    client = await start(limits={"running": 1}, **SLOW)
    ids = [await submit(client, recording(200)) for _ in range(3)]
    await reached(client, ids[0], "processing")
    assert [(await status(client, id))["queue_position"] for id in ids] == [None, 1, 2]
    for id, expected in ((ids[0], "processing"), (ids[2], "queued")):
        answer = await client.get(f"{API}/result/{id}")
        body = await answer.json()
        assert (answer.status, body["error"]["code"], body["status"]["status"]) == (409, "not_finished", expected)


async def test_what_is_unknown_answers_404(start: Start) -> None:
    client = await start()
    for path in ("status/x", "result/x", "events/x", "batches/x"):
        assert await error(await client.get(f"{API}/{path}")) == (404, "not_found")
    assert await error(await client.delete(f"{API}/tasks/x")) == (404, "not_found")


async def test_an_expired_result_answers_410_and_is_forgotten_later(start: Start, recording: Recording) -> None:
    client = await start()
    accepted = await (await client.post(f"{API}/batch/async", data=form(recording()))).json()
    id = accepted["tasks"][0]["task_id"]
    await reached(client, id, "completed")
    backlog = service(client).backlog
    await backlog.clean()
    assert (await client.get(f"{API}/result/{id}")).status == 200  # it is kept for its time
    assert await service(client).store.expire(time.time() + 1) == [id]
    assert await error(await client.get(f"{API}/result/{id}")) == (410, "expired")
    assert (await status(client, id))["status"] == "expired"
    batch = await (await client.get(accepted["status_url"])).json()
    assert (batch["status"], batch["successful"], batch["expired"]) == ("completed", 0, 1)
    backlog._limits = backlog._limits.model_copy(update={"keep_results_hours": 1e-9})
    await backlog.clean()
    assert await error(await client.get(f"{API}/result/{id}")) == (404, "not_found")
    assert await error(await client.get(accepted["status_url"])) == (404, "not_found")


async def test_a_failed_task_answers_its_own_error(start: Start, recording: Recording) -> None:
    client = await start()
    refused = await submit(client, recording(2, "refuse decode"))
    broken = await submit(client, recording(2, "refuse whisper"))
    raising = await submit(client, recording(2, "raise embedded"))
    await reached(client, refused, "completed")  # the stand-in reads its orders after it decoded
    shown = await reached(client, broken, "failed")
    assert (shown["error"], shown["error_code"]) == ("This recording cannot be decoded.", "undecodable")
    answer = await client.get(f"{API}/result/{broken}")
    assert (await answer.json())["error"]["param"] == "file"
    assert await error(answer) == (422, "undecodable")
    await reached(client, raising, "failed")
    answer = await client.get(f"{API}/result/{raising}")
    assert await error(answer) == (500, "model_failed")
    assert "secret" not in await answer.text()
    assert folders(client) == set()
    stats = await (await client.get("/stats")).json()
    assert (stats["total_tasks"], stats["completed_tasks"], stats["failed_tasks"]) == (3, 1, 2)
    assert (stats["store"]["tasks"]["failed"], stats["store"]["ever_completed"]) == (2, 1)
    assert await metric(client, "diarserve_tasks_total", outcome="failed") == 2
    for code in ("undecodable", "model_failed"):
        assert await metric(client, "diarserve_tasks_total", outcome="failed", code=code) == 1


async def test_a_callback_is_for_tasks_only(start: Start, recording: Recording) -> None:
    client = await start()
    for route in ("transcribe", "batch"):
        answer = await client.post(f"{API}/{route}", data=form(recording(), callback_url="http://example.org/x"))
        body = await answer.json()
        assert (answer.status, body["error"]["param"]) == (400, "callback_url")
    for url in ("ftp://example.org/", "nonsense"):
        answer = await client.post(f"{API}/transcribe/async", data=form(recording(), callback_url=url))
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, "callback_url")
    assert folders(client) == set()


async def test_names_that_are_no_text_do_no_harm(start: Start) -> None:
    client = await start()
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="caf\xe9\xff.wav"\r\n\r\n'
        b"RIFF\0\0\0\0WAVEfmt " + bytes(64_000) + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await client.post(f"{API}/transcribe/async", data=body, headers=headers)
    assert answer.status == 202
    shown = await reached(client, (await answer.json())["task_id"], "completed")
    assert shown["filename"].endswith(".wav")


# Cancelling


async def test_cancel_a_running_task(start: Start, recording: Recording) -> None:
    client = await start(**SLOW)
    id = await submit(client, recording(1000))
    lanes = service(client).lanes
    await until(
        lambda: all(lane.state()["workers"][0]["jobs"] for lane in (lanes.whisper, lanes.diarizers["embedded"]))
    )
    answer = await client.delete(f"{API}/tasks/{id}")
    assert (answer.status, (await answer.json())["status"]["status"]) == (200, "cancelled")
    assert jobs(client) == 0
    assert folders(client) == set()
    assert await error(await client.get(f"{API}/result/{id}")) == (409, "not_finished")
    assert (await status(client, id))["attempts"] == 1


async def test_cancel_queued_tasks(start: Start, recording: Recording) -> None:
    client = await start(limits={"running": 1}, **SLOW)
    first, second, third = [await submit(client, recording(n)) for n in (1000, 1000, 2)]
    await reached(client, first, "processing")
    await client.delete(f"{API}/tasks/{second}")
    assert folders(client) == {first, third}
    await client.delete(f"{API}/tasks/{first}")
    await reached(client, third, "completed")
    assert (await client.get(f"{API}/result/{third}")).status == 200


async def test_cancel_at_any_moment_ends_a_task_once(start: Start, recording: Recording) -> None:
    client = await start()
    ids = []
    for number in range(30):
        ids.append(await submit(client, recording(1)))
        for _ in range(number * 3):
            await asyncio.sleep(0)
        await client.delete(f"{API}/tasks/{ids[-1]}")
    for id in ids:
        answer = await client.get(f"{API}/result/{id}")
        assert answer.status in (404, 409)  # deleted or cancelled
    await until(lambda: not folders(client) and not jobs(client))
    totals = await service(client).store.totals()
    assert totals.completed + totals.cancelled == 30
    assert totals.failed == 0


# Lists and batches


async def test_tasks_are_listed_filtered_and_paged(start: Start, recording: Recording) -> None:
    client = await start()
    ids = [await submit(client, recording(1)) for _ in range(5)]
    for id in ids:
        await reached(client, id, "completed")
    listed: list[str] = []
    before: dict[str, str] = {}
    while True:
        page = await (await client.get(f"{API}/tasks", params={"limit": "2", **before})).json()
        listed += [task["task_id"] for task in page["tasks"]]
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert listed == ids[::-1]
    for asked, expected in (("completed", 5), ("failed", 0)):
        assert len((await (await client.get(f"{API}/tasks?status={asked}")).json())["tasks"]) == expected
    for wrong in ("status=done", "limit=0", "limit=x", "limit=1001", "limit=²"):
        assert (await client.get(f"{API}/tasks?{wrong}")).status == 400


async def test_a_batch_answers_in_order(start: Start, recording: Recording) -> None:
    client = await start(limits={"running": 2})
    body = form(recording(3), b"no recording at all", recording(2, "refuse whisper"), recording(1), language="en")
    answer = await client.post(f"{API}/batch", data=body)
    assert answer.status == 200
    batch = await answer.json()
    assert (batch["total_files"], batch["successful"], batch["failed"]) == (4, 2, 2)
    results = batch["results"]
    assert [result["status"] for result in results] == ["completed", "failed", "failed", "completed"]
    assert [result["filename"] for result in results] == [f"call {number}.wav" for number in range(4)]
    assert (results[0]["text"], results[3]["text"]) == ("w0 w1 w2", "w0")
    assert [(results[n]["http_status"], results[n]["error"]["code"]) for n in (1, 2)] == [
        (415, "unsupported_media"),
        (422, "undecodable"),
    ]
    assert batch["performance"]["estimated_speedup"] > 0
    assert batch["performance"]["total_time"] > 0
    assert batch["performance"]["audio_duration"] == 4.0
    assert folders(client) == set()


async def test_a_batch_of_tasks(start: Start, recording: Recording) -> None:
    client = await start()
    body = form(recording(3), recording(2, "refuse whisper"), recording(1))
    answer = await client.post(f"{API}/batch/async", data=body)
    accepted = await answer.json()
    assert (answer.status, answer.headers["Location"]) == (202, accepted["status_url"])
    assert (accepted["total_files"], accepted["status"]) == (3, "queued")
    batch: dict[str, Any] = {}

    async def is_completed() -> bool:
        batch.update(await (await client.get(accepted["status_url"])).json())
        return bool(batch["status"] == "completed")

    await until(is_completed)
    assert (batch["successful"], batch["failed"], batch["expired"]) == (2, 1, 0)
    assert [task["status"] for task in batch["tasks"]] == ["completed", "failed", "completed"]
    assert {task["priority"] for task in batch["tasks"]} == {"low"}
    assert (await (await client.get(batch["tasks"][0]["result_url"])).json())["text"] == "w0 w1 w2"
    listed = await (await client.get(f"{API}/tasks", params={"batch_id": batch["batch_id"]})).json()
    assert len(listed["tasks"]) == 3


async def test_a_batch_of_tasks_is_accepted_whole_or_not_at_all(start: Start, recording: Recording) -> None:
    client = await start(limits={"max_queued": 2})
    answer = await client.post(f"{API}/batch/async", data=form(recording(), b"nothing"))
    assert await error(answer) == (415, "unsupported_media")
    assert "call 1.wav" in (await answer.json())["error"]["message"]
    assert await error(await client.post(f"{API}/batch/async", data=form(*[recording()] * 3))) == (429, "queue_full")
    for route in ("batch", "batch/async"):
        assert (await client.post(f"{API}/{route}", data=FormData({"language": "en"}))).status == 400
    assert folders(client) == set()
    assert (await (await client.get(f"{API}/tasks")).json())["tasks"] == []


# The queue


async def test_high_overtakes_and_low_is_not_starved(start: Start, recording: Recording) -> None:
    client = await start(limits={"running": 1}, **SLOW)
    low = await submit(client, recording(8), priority="low")
    await reached(client, low, "processing")
    normal = [await submit(client, recording(8)) for _ in range(3)]
    high = await submit(client, recording(2), priority="high")
    await reached(client, high, "completed")
    assert (await status(client, low))["status"] == "processing"
    assert (await status(client, normal[2]))["status"] == "queued"
    for id in (low, *normal):
        await reached(client, id, "completed")


async def test_metrics_and_stats_tell_durable_tasks_from_those_in_the_pipeline(
    start: Start, recording: Recording
) -> None:
    client = await start(limits={"running": 1}, **SLOW)
    ids = [await submit(client, recording(1000)) for _ in range(3)]
    await reached(client, ids[0], "processing")
    await until(lambda: len(service(client).tasks) == 1)
    assert await metric(client, "diarserve_durable_tasks", status="queued") == 2
    assert await metric(client, "diarserve_durable_tasks", status="processing") == 1
    assert await metric(client, "diarserve_tasks_in_flight") == 1
    assert await metric(client, "diarserve_pending_recordings") == 0
    await client.delete(f"{API}/tasks/{ids[0]}")
    stats = await (await client.get("/stats")).json()
    assert stats["cancelled_tasks"] == await metric(client, "diarserve_tasks_total", outcome="cancelled") == 1


async def test_stages_that_did_not_run_are_not_counted(start: Start, recording: Recording) -> None:
    client = await start(separate={"engine": "tests.support.standins:Separator"})
    for option in ("diarizer", "source_separation", "enhanced_alignment"):  # there is no lane for the last one
        value = "auto" if option == "diarizer" else "true"
        answer = await client.post(f"{API}/transcribe", data=form(recording(2), **{option: value}))
        assert answer.status == 200
    counted = {
        stage: await metric(client, "diarserve_stage_seconds_count", stage=stage)
        for stage in ("decode", "separate", "transcribe", "align", "diarize")
    }
    assert counted == {"decode": 3, "separate": 1, "transcribe": 3, "align": 0, "diarize": 3}


async def test_a_batch_takes_a_slot_for_each_of_its_files(start: Start, recording: Recording) -> None:
    client = await start(limits={"max_pending": 3}, **SLOW)
    pending = service(client).tasks.slots
    too_many = await client.post(f"{API}/batch", data=form(*[recording()] * 4))
    assert await error(too_many) == (413, "too_large")
    running = asyncio.create_task(client.post(f"{API}/batch", data=form(recording(1000), recording(1000))))
    await until(lambda: pending.taken == 2)
    assert await metric(client, "diarserve_pending_recordings") == 2
    assert await error(await client.post(f"{API}/batch", data=form(recording(), recording()))) == (429, "queue_full")
    assert (await client.post(f"{API}/transcribe", data=form(recording()))).status == 200
    running.cancel()
    await until(lambda: pending.taken == 0)
    answer = await client.post(f"{API}/batch/async", data=form(*[recording()] * 4))
    assert answer.status == 202  # nobody waits: max_queued is its limit
    assert pending.taken == 0


async def test_a_full_queue_answers_429(start: Start, recording: Recording) -> None:
    client = await start(limits={"running": 1, "max_queued": 1}, **SLOW)
    await reached(client, await submit(client, recording(200)), "processing")
    waiting = await submit(client, recording(1))
    answer = await client.post(f"{API}/transcribe/async", data=form(recording(1)))
    assert await error(answer) == (429, "queue_full")
    assert int(answer.headers["Retry-After"]) >= 1
    await client.delete(f"{API}/tasks/{waiting}")
    await submit(client, recording(1))


async def test_a_disk_that_is_full_answers_507_and_keeps_nothing(
    start: Start, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start()
    held = store(client)
    execute = held._database.execute_fetchall

    def full(sql: str, *values: Any) -> Any:
        if sql.lstrip().startswith("INSERT INTO tasks"):
            raise sqlite3.OperationalError("database or disk is full")
        return execute(sql, *values)

    with monkeypatch.context() as patch:
        patch.setattr(held._database, "execute_fetchall", full)
        for route in ("transcribe/async", "batch/async"):
            answer = await client.post(f"{API}/{route}", data=form(recording()))
            assert await error(answer) == (507, "storage_full")
            assert "Retry-After" in answer.headers
    assert folders(client) == set()
    await reached(client, await submit(client, recording()), "completed")


async def test_a_result_that_cannot_be_written_is_written_later(
    start: Start, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diarserve.tasks.completion.PAUSE", 0.01)
    client = await start()
    held = store(client)
    refusals: list[str] = []
    execute = held._database.execute_fetchall

    def full_at_first(sql: str, *values: Any) -> Any:
        if sql.startswith("INSERT INTO documents") and len(refusals) < 3:
            refusals.append(sql)
            raise sqlite3.OperationalError("database or disk is full")
        return execute(sql, *values)

    monkeypatch.setattr(held._database, "execute_fetchall", full_at_first)
    id = await submit(client, recording(2))
    assert (await reached(client, id, "completed"))["attempts"] == 1
    assert len(refusals) == 3
    assert (await (await client.get(f"{API}/result/{id}")).json())["text"] == "w0 w1"


@pytest.mark.parametrize("lane", ["whisper", "embedded"])
async def test_a_task_that_finds_the_disk_full_is_done_later(
    start: Start, recording: Recording, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    monkeypatch.setattr("diarserve.tasks.completion.PAUSE", 0.01)
    client = await start()
    id = await submit(client, recording(2, f"storage-full-once {lane}"))
    shown = await reached(client, id, "completed")
    assert (shown["attempts"], shown["error"]) == (1, None)
    assert (await (await client.get(f"{API}/result/{id}")).json())["text"] == "w0 w1"
    assert folders(client) == set()
    answer = await client.post(f"{API}/transcribe", data=form(recording(2, f"storage-full-once {lane}")))
    assert await error(answer) == (507, "storage_full")  # who waits is told


async def test_a_task_is_done_later_where_the_server_itself_finds_the_disk_full(
    start: Start, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diarserve.tasks.completion.PAUSE", 0.01)
    client = await start()
    run, refusals = pipeline.run, [errno.ENOSPC, errno.EDQUOT]

    async def full_at_first(*arguments: Any, **more: Any) -> Document:
        if refusals:
            raise OSError(refusals.pop(), "no space")
        return await run(*arguments, **more)

    monkeypatch.setattr(pipeline, "run", full_at_first)
    id = await submit(client, recording(2))
    assert (await reached(client, id, "completed"))["attempts"] == 1
    assert refusals == []


async def test_others_go_on_while_a_task_waits_for_disk_space(
    start: Start, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diarserve.tasks.completion.PAUSE", 3600.0)
    client = await start(limits={"running": 1})
    ids = [await submit(client, recording(2, order)) for order in ("storage-full-once whisper", "", "")]
    for id in ids[1:]:
        await reached(client, id, "completed")
    shown = await status(client, ids[0])
    assert (shown["status"], shown["stage"], shown["error"]) == ("processing", "waiting_for_storage", None)
    assert folders(client) == {ids[0]}
    answer = await client.delete(f"{API}/tasks/{ids[0]}")
    assert (await answer.json())["status"]["status"] == "cancelled"
    assert folders(client) == set()


async def test_a_client_that_goes_away_while_it_is_accepted_leaves_a_whole_task_or_none(
    start: Start, recording: Recording
) -> None:
    client = await start()
    for turns in range(0, 200, 8):
        request = asyncio.create_task(client.post(f"{API}/transcribe/async", data=form(recording(1))))
        for _ in range(turns):
            await asyncio.sleep(0)
        request.cancel()
    await until(lambda: not any(service(client).spool.incoming.iterdir()))
    counts: dict[Any, int] = {}

    async def all_ended() -> bool:
        counts.update(await service(client).store.counts())
        return not counts["queued"] + counts["processing"]

    await until(all_ended)
    assert counts["failed"] == 0
    await until(lambda: not folders(client))


# Events


async def events(client: Client, id: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    async with client.get(f"{API}/events/{id}") as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        name = ""
        async for line in answer.content:
            if line.startswith(b"event: "):
                name = line[7:].decode().strip()
            elif line.startswith(b"data: "):
                yield name, orjson.loads(line[6:])


async def test_events_of_a_task_from_queue_to_end(start: Start, recording: Recording) -> None:
    client = await start(limits={"running": 1}, **SLOW)
    first, second = await submit(client, recording(5)), await submit(client, recording(4))
    heard = [event async for event in events(client, second)]
    assert heard[0] == (
        "progress",
        {"progress": 0.0, "stage": "queued", "stages": {"decode": 0.0, "transcribe": 0.0, "diarize": 0.0}},
    )
    assert [data["text"] for name, data in heard if name == "segment"] == ["w0", "w1", "w2", "w3"]
    progress = [data["progress"] for name, data in heard if name == "progress"]
    assert progress == sorted(progress)
    assert heard[-1] == ("done", await status(client, second))
    assert heard[-1][1]["status"] == "completed"
    assert [name for name, _ in [event async for event in events(client, first)]] == ["done"]


async def test_sentences_have_their_speaker_once_the_diarizer_is_done(start: Start, recording: Recording) -> None:
    client = await start()
    id = await submit(client, recording(4, "block-once whisper"))
    blocked, speakers = True, []
    async for name, data in events(client, id):
        if blocked and name == "progress" and data["stages"]["diarize"] == 100:
            (service(client).spool.durable / id / "go").touch()
            blocked = False
        elif name == "segment":
            speakers.append((data["text"], data["speaker"]))
    assert speakers == [(f"w{number}", f"SPEAKER_0{number % 2}") for number in range(4)]


async def test_events_of_a_task_whose_worker_dies_show_every_word_once(start: Start, recording: Recording) -> None:
    client = await start()
    id = await submit(client, recording(12, "kill-once-at 5 whisper"))
    words = []
    async for name, data in events(client, id):
        if name == "segment":
            words.append(data["text"])
            if len(words) == 5:
                (service(client).spool.durable / id / "go").touch()
    assert words == [f"w{number}" for number in range(12)]
    assert (await status(client, id))["status"] == "completed"


async def test_an_openai_stream_whose_worker_dies_says_every_word_once(start: Start, recording: Recording) -> None:
    client = await start()
    body = form(recording(12, "kill-once-at 5 whisper"), model="whisper-1", stream="true")
    deltas, text = [], ""
    async with client.post("/v1/audio/transcriptions", data=body) as answer:
        async for line in answer.content:
            event = orjson.loads(line[6:]) if line.startswith(b"data: ") else {}
            if event.get("type") == "transcript.text.delta":
                deltas.append(event["delta"])
                if len(deltas) == 5:
                    [folder] = service(client).spool.incoming.iterdir()
                    (folder / "go").touch()
            text = event.get("text", text)
    assert "".join(deltas) == text == " ".join(f"w{number}" for number in range(12))


def test_a_retried_transcription_that_differs_never_goes_back_in_time() -> None:
    def chunk(*times: float) -> tuple[Word, ...]:
        return tuple(Word(f" {time}", time, time + 0.5, 1.0) for time in times)

    partial = PartialTranscript()
    for words in (chunk(0, 1), chunk(2), chunk(3, 4)):
        partial.add(words)
    partial.restart()
    for words in (chunk(0, 1), chunk(2, 3), chunk(4.2, 5), (), chunk(6)):
        partial.add(words)
    assert partial.chunks == [chunk(0, 1), chunk(2), chunk(3, 4), chunk(5), chunk(6)]


def test_sentences_told_early_are_in_a_partial_transcript_once() -> None:
    def said(*times: float) -> tuple[Word, ...]:
        return tuple(Word(f" {time}", time, time + 0.5, 1.0) for time in times)

    partial = PartialTranscript()
    partial.add_interim(said(0, 1))
    partial.restart()  # the worker died after them
    partial.add_interim(said(0, 1))
    partial.add(said(0, 1, 2))
    partial.add_interim(said(3, 4))
    partial.add((Word(" other", 3.0, 4.2, 1.0), *said(5)))  # what is written in the end may differ
    assert partial.chunks == [said(0, 1), said(2), said(3, 4), said(5)]


async def test_events_end_when_the_task_is_cancelled(start: Start, recording: Recording) -> None:
    client = await start(limits={"running": 1}, **SLOW)
    for id in [await submit(client, recording(1000)) for _ in range(2)][::-1]:  # queued, then running
        last: tuple[str, dict[str, Any]] | None = None
        async for name, data in events(client, id):
            if last is None:
                await client.delete(f"{API}/tasks/{id}")
            last = name, data
        assert last is not None
        assert (last[0], last[1]["status"]) == ("done", "cancelled")


async def test_a_listener_that_goes_away_is_forgotten_and_the_task_goes_on(start: Start, recording: Recording) -> None:
    client = await start(**SLOW)
    id = await submit(client, recording(20))
    stream = events(client, id)
    await anext(stream)
    task = service(client).tasks.find(id)
    assert task is not None
    assert len(task._watchers) == 1
    await stream.aclose()  # type: ignore[attr-defined]
    await until(lambda: not task._watchers)
    await reached(client, id, "completed")


async def test_a_task_that_ended_while_its_row_was_read_is_seen_to_have_ended(
    start: Start, recording: Recording
) -> None:
    client = await start()
    id = await submit(client, recording(1))
    stale = await service(client).store.get(id)
    assert stale is not None
    await reached(client, id, "completed")
    assert not stale.ended
    await service(client).backlog.ended(stale)


# Idempotency-Key


async def test_the_same_key_is_the_same_task(start: Start, recording: Recording) -> None:
    client = await start()
    key = {"Idempotency-Key": "one"}
    ids = await asyncio.gather(*(submit(client, recording(2), key) for _ in range(5)))
    assert len(set(ids)) == 1
    await reached(client, ids[0], "completed")
    assert await submit(client, recording(2), key) == ids[0]
    answer = await client.post(f"{API}/transcribe", data=form(recording(2)), headers=key)
    assert (await answer.json())["task_id"] == ids[0]
    assert folders(client) == set()
    for body, route in ((form(recording(2), language="de"), "transcribe/async"), (form(recording(2)), "batch/async")):
        answer = await client.post(f"{API}/{route}", data=body, headers=key)
        assert await error(answer) == (422, "idempotency_key_reused")
    answer = await client.post(
        f"{API}/transcribe/async", data=form(recording()), headers={"Idempotency-Key": "x" * 256}
    )
    assert answer.status == 400
    blank = {"Idempotency-Key": " "}
    assert await submit(client, recording(), blank) != await submit(client, recording(), blank)


async def test_the_same_key_with_another_recording_of_the_same_name_and_options_is_refused(
    start: Start, recording: Recording
) -> None:
    client = await start()
    key = {"Idempotency-Key": "one"}
    id = await submit(client, recording(2), key)
    other = recording(2)[:-1] + b"\1"  # one bit of the last sample
    for route in ("transcribe/async", "transcribe"):
        answer = await client.post(f"{API}/{route}", data=form(other), headers=key)
        assert await error(answer) == (422, "idempotency_key_reused")
    assert await submit(client, recording(2), key) == id
    batch = {"Idempotency-Key": "batch"}
    for second, expected in ((recording(2), 202), (other, 422), (recording(2), 202)):
        answer = await client.post(f"{API}/batch/async", data=form(recording(1), second), headers=batch)
        assert answer.status == expected
    await reached(client, id, "completed")
    await until(lambda: not folders(client))


async def test_the_same_key_is_the_same_batch(start: Start, recording: Recording) -> None:
    client = await start()
    bodies = []
    for _ in range(2):
        data = form(recording(1), recording(2))
        answer = await client.post(f"{API}/batch/async", data=data, headers={"Idempotency-Key": "b"})
        bodies.append(await answer.json())
    assert bodies[0]["batch_id"] == bodies[1]["batch_id"]
    assert bodies[0]["tasks"][1]["task_id"] == bodies[1]["tasks"][1]["task_id"]


async def test_who_waits_with_a_key_shares_the_work(start: Start, recording: Recording) -> None:
    client = await start(**SLOW)
    key = {"Idempotency-Key": "sync"}

    async def ask(order: str = "") -> Any:
        return await client.post(f"{API}/transcribe", data=form(recording(5, order)), headers=key)

    first = asyncio.create_task(ask())
    await until(lambda: jobs(client) > 0)
    second, third = await asyncio.gather(ask(), first)
    assert (second.status, third.status) == (200, 200)
    assert await second.json() == await third.json()
    assert (await service(client).store.totals()).completed == 1


async def test_a_waiting_client_with_a_key_learns_how_its_task_failed(start: Start, recording: Recording) -> None:
    client = await start()
    for _ in range(2):
        body = form(recording(2, "refuse whisper"))
        answer = await client.post(f"{API}/transcribe", data=body, headers={"Idempotency-Key": "bad"})
        assert await error(answer) == (422, "undecodable")


# Shutdown


async def test_an_orderly_shutdown_queues_again_and_the_next_start_finishes(start: Start, recording: Recording) -> None:
    client = await start(limits={"running": 2}, **SLOW)
    ids = [await submit(client, recording(n)) for n in (30, 31, 32)]
    await reached(client, ids[1], "processing")
    store_path = service(client).settings.data_dir
    listening = asyncio.create_task(_all(events(client, ids[2])))
    waiting = asyncio.create_task(
        client.post(f"{API}/transcribe", data=form(recording(33)), headers={"Idempotency-Key": "w"})
    )

    async def all_accepted() -> bool:
        return (await service(client).store.counts())["queued"] + len(service(client).backlog._runner) == 4

    await until(all_accepted)
    await until(lambda: any(task.id == ids[2] and task._watchers for task in service(client).tasks.all()))
    await client.server.close()
    assert [name for name, _ in await listening if name == "done"] == []
    assert await error(await waiting) == (503, "not_ready")
    again = await start()
    assert service(again).settings.data_dir == store_path
    for id, seconds in zip(ids, (30, 31, 32), strict=True):
        shown = await reached(again, id, "completed")
        assert shown["attempts"] == 1  # what a shutdown stopped is no attempt
        document = await (await again.get(f"{API}/result/{id}")).json()
        assert document["duration"] == seconds
    answer = await again.post(f"{API}/transcribe", data=form(recording(33)), headers={"Idempotency-Key": "w"})
    assert answer.status == 200
    assert folders(again) == set()


async def _all(stream: AsyncIterator[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    return [event async for event in stream]
