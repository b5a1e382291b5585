"""The HTTP service, with stand-in engines in real worker processes."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
from types import ModuleType
from typing import Any

import pytest
from aiohttp import ClientPayloadError, FormData

from diarserve.http import context, responses, sse
from diarserve.http.openai import routes as openai_routes
from diarserve.http.openai import shapes
from diarserve.http.routes import transcribe
from diarserve.tasks import views
from diarserve.tasks.task import Task
from diarserve.transcript.document import Document
from tests.support.app import API, TRANSCRIBE, Recording, Start, error, folders, form, metric, service, spool, wav
from tests.support.loop_blocks import long_document
from tests.support.waiting import until


async def test_a_recording_becomes_a_document(start: Start, recording: Recording) -> None:
    client = await start()
    response = await client.post(TRANSCRIBE, data=form(recording(3), language="en"))
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    document = await response.json()
    assert len(document.pop("task_id")) == 32
    performance = document.pop("performance")
    assert document == {
        "status": "completed",
        "filename": "call 0.wav",
        "language": "en",
        "duration": 3.0,
        "text": "w0 w1 w2",
        "speakers": ["SPEAKER_00", "SPEAKER_01"],
        "segments": [
            {
                "id": n,
                "start": n + 0.1,
                "end": n + 0.9,
                "speaker": f"SPEAKER_0{n % 2}",
                "text": f"w{n}",
                "language": "en",
                "words": [
                    {
                        "word": f"w{n}",
                        "start": n + 0.1,
                        "end": n + 0.9,
                        "probability": 1.0,
                        "speaker": f"SPEAKER_0{n % 2}",
                        "speaker_confidence": 1.0,
                        "overlap": False,
                        "other_speakers": [],
                    }
                ],
            }
            for n in range(3)
        ],
        "turns": [{"start": float(n), "end": n + 1.0, "speaker": f"SPEAKER_0{n % 2}"} for n in range(3)],
        "models": {
            "whisper": "stand-in",
            "diarization": "stand-in",
            "alignment": "whisper cross-attention",
            "source_separation": None,
            "speaker_confidence": "coverage",
        },
        "degraded": False,
        "warnings": [],
    }
    assert performance["parallel_processing"] is True
    assert set(performance) == {
        "parallel_processing", "processing_time", "queue_time", "decode_time", "separation_time",
        "transcription_time", "forced_alignment_time", "diarization_time", "alignment_time",
        "real_time_factor", "speedup_estimate",
    }  # fmt: skip
    assert spool(client) == []


async def test_the_two_models_run_at_the_same_time(start: Start, recording: Recording) -> None:
    slow = {"step_seconds": 0.05}
    client = await start(whisper=slow, embedded=slow)
    performance = (await (await client.post(TRANSCRIBE, data=form(recording(10)))).json())["performance"]
    assert performance["speedup_estimate"] > 1.5
    assert await metric(client, "diarserve_overlap_ratio_sum") > 0.5


async def test_one_after_the_other_when_told_to(start: Start, recording: Recording) -> None:
    client = await start(parallel_processing=False)
    performance = (await (await client.post(TRANSCRIBE, data=form(recording(3)))).json())["performance"]
    assert performance["parallel_processing"] is False
    assert performance["speedup_estimate"] <= 1
    assert await metric(client, "diarserve_overlap_ratio_sum") == 0


async def test_flags_that_cannot_be_honoured_are_said(start: Start, recording: Recording) -> None:
    client = await start()
    fields = {"source_separation": "True", "enhanced_alignment": "on"}
    document = await (await client.post(TRANSCRIBE, data=form(recording(), **fields))).json()
    assert [warning.split()[0] for warning in document["warnings"]] == ["source_separation", "enhanced_alignment"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"num_speakers": "0"}, "num_speakers"),
        ({"num_speakers": "two"}, "num_speakers"),
        ({"min_speakers": "3", "max_speakers": "2"}, None),
        ({"source_separation": "perhaps"}, "source_separation"),
        ({"response_format": "docx"}, "response_format"),
        ({"colour": "blue"}, "colour"),
    ],
)
async def test_bad_parameters_are_named(
    start: Start, recording: Recording, fields: dict[str, str], param: str | None
) -> None:
    client = await start()
    response = await client.post(TRANSCRIBE, data=form(recording(), **fields))
    error = (await response.json())["error"]
    assert (response.status, error["code"], error["param"]) == (400, "invalid_request", param)
    assert spool(client) == []


@pytest.mark.parametrize("route", [TRANSCRIBE, f"{TRANSCRIBE}/async", "/v1/audio/transcriptions"])
async def test_a_recording_in_another_field_is_told_where_it_goes(
    start: Start, recording: Recording, route: str
) -> None:
    client = await start()
    for field, named in (("audio_file", "audio_file"), (b"\xff".decode(errors="surrogateescape"), "?")):
        body = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="a.wav"\r\n\r\n%s\r\n--x--\r\n'
        response = await client.post(
            route,
            data=body % (field.encode(errors="surrogateescape"), recording(20)),
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
        error = (await response.json())["error"]
        assert (response.status, error["code"], error["param"]) == (400, "invalid_request", named)
        assert "goes into the field 'file'" in error["message"]
    assert spool(client) == []


@pytest.mark.parametrize("name", ["response_format", "format"])
async def test_options_may_stand_in_the_query(start: Start, recording: Recording, name: str) -> None:
    client = await start()
    srt = "1\n00:00:00,100 --> 00:00:00,900\nSPEAKER_00: w0\n\n"
    for data in (form(recording(1)), form(recording(1), **{name: "srt"})):
        response = await client.post(TRANSCRIBE, params={name: "srt"}, data=data)
        assert (response.status, await response.text()) == (200, srt)
    assert await (await client.post(TRANSCRIBE, data=form(recording(1), **{name: "srt"}))).text() == srt
    task = (await (await client.post(f"{TRANSCRIBE}/async", data=form(recording(1)))).json())["task_id"]
    await (await client.get(f"/api/v1/parallel/events/{task}")).read()
    assert await (await client.get(f"/api/v1/parallel/result/{task}", params={name: "srt"})).text() == srt


@pytest.mark.parametrize(
    ("query", "fields", "param"),
    [
        ("response_format=srt", {"response_format": "vtt"}, "response_format"),
        ("response_format=srt", {"format": "vtt"}, None),
        ("format=docx", {}, "format"),
        ("colour=blue", {}, "colour"),
        ("language=en&language=de", {}, "language"),
    ],
)
async def test_options_that_are_wrong_in_the_query(
    start: Start, recording: Recording, query: str, fields: dict[str, str], param: str | None
) -> None:
    client = await start()
    response = await client.post(f"{TRANSCRIBE}?{query}", data=form(recording(1), **fields))
    error = (await response.json())["error"]
    assert (response.status, error["code"], error["param"]) == (400, "invalid_request", param)
    assert spool(client) == []


async def test_bodies_that_are_no_form(start: Start, recording: Recording) -> None:
    client = await start()
    for body in (
        {"data": b"abc", "headers": {"Content-Type": "text/plain"}},
        {"json": {"file": "x"}},
        {"data": FormData({"language": "en"})},
        {"data": b"--x\r\nnonsense", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"data": b"", "headers": {"Content-Type": "multipart/form-data"}},
        {"data": b"--x", "headers": {"Content-Type": "multipart/form-data; boundary=x", "Content-Encoding": "gzip"}},
    ):
        response = await client.post(TRANSCRIBE, **body)
        assert response.status == 400, body
        assert (await response.json())["error"]["message"]
    assert spool(client) == []


async def test_what_is_no_recording_is_refused_by_its_first_bytes(start: Start) -> None:
    client = await start()
    for data, status, code in (
        (b"", 400, "empty_file"),
        (b"hello " * 1000, 415, "unsupported_media"),
        (b"\x89PNG\r\n\x1a\n" + bytes(5_000_000), 415, "unsupported_media"),
    ):
        response = await client.post(TRANSCRIBE, data=form(data))
        assert (response.status, (await response.json())["error"]["code"]) == (status, code)
    assert spool(client) == []
    assert await metric(client, "diarserve_rejects_total", code="unsupported_media") == 2


async def test_an_upload_over_the_limit_is_refused(start: Start, recording: Recording) -> None:
    client = await start(limits={"max_upload_mib": 1})

    async def drip() -> Any:
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        yield head + recording(1)
        for _ in range(64):
            yield bytes(32_000)

    for body in (
        {"data": form(recording(60))},
        {"data": drip(), "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
    ):
        response = await client.post(TRANSCRIBE, **body)
        assert (response.status, (await response.json())["error"]["code"]) == (413, "too_large")
    assert spool(client) == []


async def test_a_full_queue_answers_429(start: Start, recording: Recording) -> None:
    client = await start(limits={"max_pending": 1}, whisper={"step_seconds": 0.2})
    first = asyncio.create_task(client.post(TRANSCRIBE, data=form(recording(20))))
    await until(lambda: service(client).tasks.slots.taken == 1)
    response = await client.post(TRANSCRIBE, data=form(recording()))
    assert (response.status, (await response.json())["error"]["code"]) == (429, "queue_full")
    assert int(response.headers["Retry-After"]) >= 1
    assert (await first).status == 200


async def test_a_full_disk_answers_507(start: Start, recording: Recording) -> None:
    client = await start(limits={"min_free_mib": 10**9})
    response = await client.post(TRANSCRIBE, data=form(recording()))
    assert (response.status, (await response.json())["error"]["code"]) == (507, "storage_full")
    assert spool(client) == []


async def test_a_lane_that_cannot_start_is_told(start: Start, recording: Recording) -> None:
    client = await start(whisper={"boot": "fail"})
    ready = await client.get("/readyz")
    assert ready.status == 503
    assert (await ready.json())["lanes"]["whisper"] == "RuntimeError: no such model"
    response = await client.post(TRANSCRIBE, data=form(recording()))
    assert (response.status, (await response.json())["error"]["code"]) == (503, "not_ready")
    assert (await client.get("/livez")).status == 200


@pytest.mark.parametrize("lane", ["decode", "whisper", "embedded"])
async def test_a_killed_worker_costs_no_answer(start: Start, recording: Recording, lane: str) -> None:
    client = await start(whisper={"step_seconds": 0.05}, embedded={"step_seconds": 0.05})
    if lane == "decode":
        [worker] = client.app[context.SERVICE].lanes.decode.state()["workers"]
        os.kill(worker["pid"], signal.SIGKILL)
        response = await client.post(TRANSCRIBE, data=form(recording(3)))
    else:
        response = await client.post(TRANSCRIBE, data=form(recording(3, f"kill-once {lane}")))
    assert (await response.json())["text"] == "w0 w1 w2"
    assert await metric(client, "diarserve_worker_restarts_total", lane=lane, reason="killed") == 1
    assert spool(client) == []


async def test_a_model_that_fails_answers_500_and_cancels_the_other(start: Start, recording: Recording) -> None:
    client = await start(embedded={"step_seconds": 0.1})
    response = await client.post(TRANSCRIBE, data=form(recording(1000, "raise whisper")))
    text = await response.text()
    assert response.status == 500
    assert "model_failed" in text
    assert "secret" not in text
    assert client.app[context.SERVICE].lanes.diarizers["embedded"].state()["workers"][0]["jobs"] == 0
    assert await metric(client, "diarserve_tasks_total", outcome="failed") == 1


async def test_a_client_that_goes_away_takes_its_work_along(start: Start, recording: Recording) -> None:
    client = await start(whisper={"step_seconds": 0.05})
    lanes = client.app[context.SERVICE].lanes
    request = asyncio.create_task(client.post(TRANSCRIBE, data=form(recording(1000))))
    await until(lambda: lanes.whisper.state()["workers"][0]["jobs"] == 1)
    request.cancel()
    await until(lambda: lanes.whisper.state()["workers"][0]["jobs"] == 0 and not spool(client))
    assert await metric(client, "diarserve_tasks_total", outcome="cancelled") == 1


async def test_an_upload_cut_short_leaves_nothing(start: Start) -> None:
    client = await start()
    _, writer = await asyncio.open_connection(client.host, client.port)
    head = f"POST {TRANSCRIBE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
    writer.write(head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n")
    writer.write(b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nRIFF1234WAVE' + bytes(9000))
    await writer.drain()
    await until(lambda: bool(spool(client)))
    writer.close()
    await until(lambda: not spool(client))


async def test_a_slow_upload_is_ended(start: Start) -> None:
    client = await start(limits={"upload_timeout": 0.2})

    async def silent() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nRIFF1234WAVE'
        await asyncio.sleep(60)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = await client.post(TRANSCRIBE, data=silent(), headers=headers)
    assert (response.status, (await response.json())["error"]["code"]) == (408, "upload_timeout")


@pytest.mark.parametrize(
    ("route", "format", "module", "maker"),
    [
        ("/v1/audio/transcriptions", "verbose_json", shapes, "verbose_json"),
        ("/v1/audio/transcriptions", "diarized_json", shapes, "diarized_json"),
        ("/v1/audio/transcriptions", "srt", openai_routes, "render"),
        (TRANSCRIBE, "srt", responses, "render"),
        ("/api/v1/parallel/batch", "json", transcribe, "encode"),
    ],
)
async def test_a_long_answer_is_not_made_on_the_event_loop(
    start: Start,
    recording: Recording,
    monkeypatch: pytest.MonkeyPatch,
    route: str,
    format: str,
    module: ModuleType,
    maker: str,
) -> None:
    client = await start()
    document, make, threads = long_document(2_500), getattr(module, maker), []

    async def process(task: Task) -> Document:
        return document

    def made(*args: Any, **named: Any) -> Any:
        threads.append(threading.current_thread())
        return make(*args, **named)

    monkeypatch.setattr(service(client), "process", process)
    monkeypatch.setattr(module, maker, made)
    response = await client.post(route, data=form(recording(1), response_format=format))
    assert (response.status, "word2499" in await response.text()) == (200, True)
    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.parametrize("route", ["task", "openai"])
async def test_a_quiet_stream_shows_that_it_lives(
    start: Start, recording: Recording, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT", 0.01)
    client = await start()
    blocked = recording(2, "block-once whisper")
    if route == "openai":
        response = await client.post("/v1/audio/transcriptions", data=form(blocked, stream="true"))
    else:
        task = (await (await client.post(f"{TRANSCRIBE}/async", data=form(blocked))).json())["task_id"]
        response = await client.get(f"/api/v1/parallel/events/{task}")
    while (line := await response.content.readline()) != b":\n":
        assert line, "the stream ended without a heartbeat"
    await until(lambda: any(path.name == "audio.f32" for folder in spool(client) for path in folder.iterdir()))
    [folder] = spool(client)
    (folder / "go").touch()
    assert b"done" in await response.content.read()


async def test_a_heartbeat_waits_for_the_end_of_an_event() -> None:
    class Slow:
        """Takes half of what is written, and the rest when others have had their turn."""

        written = b""

        async def write(self, data: bytes) -> None:
            half = len(data) // 2
            self.written += data[:half]
            for _ in range(10):
                await asyncio.sleep(0)
            self.written += data[half:]

    response = Slow()
    stream = sse.EventStream(response)  # type: ignore[arg-type]
    heart = asyncio.create_task(stream.beat(0))
    for number in range(100):
        await stream.send({"number": number})
        await asyncio.sleep(0)
    heart.cancel()
    await asyncio.wait((heart,))
    *events, rest = response.written.split(b"\n\n")
    assert [event for event in events if event != b":"] == [b'data: {"number":%d}' % n for n in range(100)]
    assert rest in (b"", b":")
    assert b":" in events


async def test_unknown_paths_and_methods_answer_in_our_shape(start: Start) -> None:
    client = await start(wait=False)
    missing = await client.get("/nowhere")
    assert (missing.status, (await missing.json())["error"]["code"]) == (404, "not_found")
    wrong = await client.get(TRANSCRIBE)
    assert (wrong.status, wrong.headers["Allow"]) == (405, "POST")
    assert (await wrong.json())["error"]["code"] == "method_not_allowed"


async def test_an_answer_that_fails_half_way_is_cut_short(
    start: Start, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start()
    task = (await (await client.post(f"{TRANSCRIBE}/async", data=form(recording()))).json())["task_id"]
    monkeypatch.delattr(views, "task_status")
    response = await client.get(f"/api/v1/parallel/events/{task}")
    with pytest.raises(ClientPayloadError):  # and not a second answer in the middle of the first
        await response.read()


async def test_stats_and_metrics_show_the_work(start: Start, recording: Recording) -> None:
    client = await start()
    for _ in range(2):
        await client.post(TRANSCRIBE, data=form(recording(2)))
    stats = await (await client.get("/stats")).json()
    assert (stats["total_tasks"], stats["completed_tasks"], stats["failed_tasks"]) == (2, 2, 0)
    assert stats["average_processing_time"] > 0
    assert stats["lanes"]["whisper"]["model"] == {"model": "stand-in", "device": "cpu", "live": True}
    assert await metric(client, "diarserve_audio_seconds_total") == 4
    assert await metric(client, "diarserve_stage_seconds_count", stage="transcribe") == 2
    assert await metric(client, "diarserve_workers_up", lane="whisper") == 1
    assert await metric(client, "diarserve_http_requests_total", route=TRANSCRIBE, status="200") == 2


@pytest.mark.parametrize(
    ("number", "answer"), [(errno.EMFILE, (503, "not_ready")), (errno.ENOSPC, (507, "storage_full"))]
)
async def test_what_a_batch_s_recordings_meet_is_answered_as_for_one(
    start: Start, monkeypatch: pytest.MonkeyPatch, number: int, answer: tuple[int, str]
) -> None:
    async def fail(task: Task) -> Document:
        raise OSError(number, os.strerror(number))

    client = await start()
    monkeypatch.setattr(service(client), "process", fail)
    assert await error(await client.post(f"{API}/batch", data=form(wav(1), wav(1)))) == answer
    assert folders(client) == set()


@pytest.mark.parametrize("route", ["batch", "batch/async"])
async def test_a_batch_without_files_is_told_so(start: Start, route: str) -> None:
    client = await start()
    response = await client.post(
        f"/api/v1/parallel/{route}", data=FormData({"language": "en"}, default_to_multipart=True)
    )
    assert (response.status, (await response.json())["error"]["param"]) == (400, "files")
