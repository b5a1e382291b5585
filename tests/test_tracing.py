"""Traces, sent to a collector of the test's own by OTLP over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from diarserve.core import configuration
from diarserve.core.configuration import ConfigError
from diarserve.core.tracing_settings import Tracing
from diarserve.live.options import LiveOptions
from diarserve.live.sessions import LiveSessions
from diarserve.observe import tracer, tracing
from tests.support.app import CONFIG, TRANSCRIBE, Client, Start, form, service, submit, wav
from tests.support.callbacks import receiving
from tests.support.collector import Collector, Span, collecting
from tests.support.paths import REPOSITORY
from tests.support.server import configured
from tests.support.waiting import until, wait_until

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01"}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")  # milliseconds until what has ended is sent
    with collecting() as made:
        yield made


def to(collector: Collector) -> dict[str, str]:
    """The environment of a server whose traces go there. Tests switch the SDK off, for libraries of models."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SDK_DISABLED": "false"}


async def traced(start: Start, collector: Collector, **sections: Any) -> Client:
    return await start(tracing={"endpoint": collector.url}, **sections)


async def ended(collector: Collector, name: str, trace: str = TRACE) -> dict[str, Span]:
    """The trace's spans by name and lane, once one of that name is there."""
    await until(lambda: any(span.name == name for span in collector.of(trace)))
    return {f"{span.name} {span.lane}".strip(): span for span in collector.of(trace)}


async def test_a_request_is_a_trace_with_a_span_for_each_of_its_parts(start: Start, collector: Collector) -> None:
    client = await traced(start, collector)
    answer = await client.post(TRANSCRIBE, data=form(wav(3)), headers=HEADERS)
    assert answer.status == 200
    task_id = (await answer.json())["task_id"]
    spans = await ended(collector, f"POST {TRANSCRIBE}")
    request, task = spans[f"POST {TRANSCRIBE}"], spans["task"]
    assert (request.parent_id, request.kind, request.failed) == (CALLER, "server", False)
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["diarserve.request.id"] == answer.headers["X-Request-ID"]
    assert request.resource["service.name"] == "diarserve"
    assert {spans[name].parent_id for name in ("upload", "task", "render")} == {request.span_id}
    assert spans["upload"].attributes["http.request.body.size"] > 96_000
    assert task.attributes["diarserve.task.id"] == task_id
    assert task.attributes["diarserve.audio_seconds"] == 3
    runs = {"decode": "decode", "transcribe": "whisper", "diarize": "embedded"}
    for name, lane in runs.items():
        run, wait = spans[f"{name} {lane}"], spans[f"queue {lane}"]
        assert {run.parent_id, wait.parent_id} == {task.span_id}
        assert request.start <= wait.start <= wait.end <= run.start + 1e-6
        assert run.end <= task.end
    assert spans["merge"].parent_id == task.span_id
    whisper = spans["transcribe whisper"]
    steps = [(at, about) for name, at, about in whisper.events if name == "step"]
    assert len(steps) == whisper.attributes["diarserve.steps"] == 3
    assert all(whisper.start - 1e-6 <= at <= at + about["seconds"] <= whisper.end + 1e-3 for at, about in steps)
    assert whisper.attributes["diarserve.model"] == "stand-in"
    assert len({span.trace_id for span in collector.spans}) == 1
    assert collector.paths == {"/v1/traces"}


async def test_a_request_without_a_trace_begins_one_and_probes_do_not(start: Start, collector: Collector) -> None:
    client = await traced(start, collector)
    for path in ("/livez", "/readyz", "/metrics", "/nothing", "/api/v1/parallel/tasks"):
        await client.get(path, headers={"traceparent": "00-no-trace-01"})
    await until(lambda: len(collector.spans) == 2)
    assert {span.name for span in collector.spans} == {"GET unmatched", "GET /api/v1/parallel/tasks"}
    assert {span.parent_id for span in collector.spans} == {""}


async def test_a_durable_task_and_its_callback_are_in_the_trace_of_its_request(
    start: Start, collector: Collector
) -> None:
    with receiving() as callbacks:
        client = await traced(start, collector, webhooks={"allow_private": True})
        id = await submit(client, wav(), HEADERS, callback_url=callbacks.url)
        spans = await ended(collector, "webhook")
        request, task = spans[f"POST {TRANSCRIBE}/async"], spans["task"]
        assert {task.parent_id, spans["webhook"].parent_id} == {request.span_id}
        assert spans["queue backlog"].parent_id == task.span_id
        assert spans["webhook"].kind == "client"
        assert spans["webhook"].attributes["http.response.status_code"] == 200
        assert callbacks.traceparents[id] == f"00-{TRACE}-{spans['webhook'].span_id}-01"


async def test_a_live_session_is_a_trace(start: Start, collector: Collector) -> None:
    client = await traced(start, collector)
    made = service(client).tracer
    assert made
    sessions = LiveSessions(service(client))
    with tracing.inside(made.begin("session", carrier=HEADERS)):
        session = sessions.open(LiveOptions())
    await session.append(bytes(64_000))
    await session.finish()
    async for _ in session.events():
        pass
    spans = await ended(collector, "task")
    assert {"listen whisper", "follow embedded", "task", "transcribe whisper"} <= spans.keys()
    assert spans["listen whisper"].parent_id == spans["session"].span_id


async def test_what_fails_says_so_in_its_spans(start: Start, collector: Collector) -> None:
    client = await traced(start, collector)
    answer = await client.post(TRANSCRIBE, data=form(wav(order="refuse whisper")), headers=HEADERS)
    assert answer.status == 422
    spans = await ended(collector, f"POST {TRANSCRIBE}")
    run, request = spans["transcribe whisper"], spans[f"POST {TRANSCRIBE}"]
    code = (await answer.json())["error"]["code"]
    assert (run.failed, run.attributes["error.type"]) == (True, code)
    assert (request.failed, request.attributes["error.type"]) == (False, code)  # it is the client's mistake
    [(step, at, about)] = run.events
    assert (step, about["failed"], run.attributes["diarserve.steps"]) == ("step", True, 1)
    assert run.start - 1e-6 <= at <= at + about["seconds"] <= run.end + 1e-3


async def test_a_trace_that_its_client_does_not_sample_is_not_sent(start: Start, collector: Collector) -> None:
    client = await traced(start, collector)
    for trace, sampled in ((TRACE, "00"), ("1" * 32, "01")):
        headers = {"traceparent": f"00-{trace}-{CALLER}-{sampled}"}
        assert (await client.post(TRANSCRIBE, data=form(wav()), headers=headers)).status == 200
    await ended(collector, f"POST {TRANSCRIBE}", "1" * 32)
    assert collector.of(TRACE) == []


async def test_a_ratio_of_0_sends_nothing_that_begins_here(start: Start, collector: Collector) -> None:
    client = await start(tracing={"endpoint": collector.url, "ratio": 0})
    assert (await client.post(TRANSCRIBE, data=form(wav()))).status == 200
    assert (await client.post(TRANSCRIBE, data=form(wav()), headers=HEADERS)).status == 200
    await ended(collector, f"POST {TRANSCRIBE}")
    assert {span.trace_id for span in collector.spans} == {TRACE}


def test_log_lines_of_the_server_and_of_its_workers_name_their_trace(collector: Collector, tmp_path: Path) -> None:
    config = f'log_level = "debug"\n{CONFIG}'
    variables = {**to(collector), "OTEL_SERVICE_NAME": "calls"}
    log = tmp_path / "log"
    with configured(config, variables, log=log) as server:
        files = {"file": ("call.wav", wav())}
        assert requests.post(server.url + TRANSCRIBE, files=files, headers=HEADERS, timeout=60).status_code == 200
        wait_until(lambda: any(span.name == f"POST {TRANSCRIBE}" for span in collector.of(TRACE)))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = {line["process"] for line in lines if line.get("trace_id") == TRACE}
    assert {"server", "whisper", "embedded"} <= told
    assert {span.resource["service.name"] for span in collector.of(TRACE)} == {"calls"}
    spans = {span.span_id for span in collector.of(TRACE)}
    assert {line["span_id"] for line in lines if line.get("trace_id") == TRACE} <= spans


async def test_a_collector_that_is_not_there_harms_nobody_and_grpc_is_warned_of(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    client = await start(tracing={"endpoint": "http://127.0.0.1:9"})
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=grpc is not supported" in caplog.text
    assert (await client.post(TRANSCRIBE, data=form(wav()), headers=HEADERS)).status == 200


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "DIARSERVE_TRACING_ENABLED": "false"}, False),
        ({"DIARSERVE_TRACING_ENDPOINT": "http://c:4318"}, True),
    ],
)
def test_traces_are_on_where_something_says_where_they_go(environment: Mapping[str, str], on: bool) -> None:
    assert configuration.load(environment=environment).tracing.enabled == on


def test_an_endpoint_that_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigError, match="endpoint"):
        configuration.load(environment={"DIARSERVE_TRACING_ENDPOINT": "collector:4318"})


def test_off_imports_nothing_of_opentelemetry() -> None:
    code = (
        "import sys, diarserve.http.app, diarserve.cli.serve\n"
        "from diarserve.core import configuration\n"
        "from diarserve.http import app\n"
        "app.make(configuration.load())\n"
        "print(*(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.split() == []


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diarserve.observe.otlp", None)
    with pytest.raises(ConfigError, match=r"diarserve\[otel\]"):
        tracer.make(Tracing(enabled=True))
