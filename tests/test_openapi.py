"""The OpenAPI document against the application, and the application against the document."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import requests
import schemathesis
from aiohttp import web
from hypothesis import strategies as st

from diarserve.core.errors import ErrorCode
from diarserve.core.types import OpenAIFormat
from diarserve.http import app
from diarserve.http.openapi import document as openapi
from diarserve.http.routes import docs
from diarserve.transcript.formats import FORMATS
from tests.support.app import stand_ins, wav
from tests.support.serving import serving

API = "/api/v1/parallel"


def strict(document: dict[str, Any]) -> dict[str, Any]:
    """The document with every record closed, so that what is answered but not described shows."""

    def close(part: Any) -> None:
        if isinstance(part, dict):
            if {"properties", "required"} <= part.keys() and "data" not in part["properties"]:  # events have an id too
                part["additionalProperties"] = False
            for inner in part.values():
                close(inner)
        elif isinstance(part, list):
            for inner in part:
                close(inner)

    document = copy.deepcopy(document)
    close(document["components"])
    return document


schema = schemathesis.openapi.from_dict(
    strict(openapi.document(app.TABLES)),
    config=schemathesis.Config.from_dict(
        {
            "seed": 1,
            "generation": {"max-examples": 10, "database": "none"},
            # A form has text only, and more of it is understood than JSON schema can say: 0 for false, one value for
            # a list. And not all that it can say is right: min_speakers may be above max_speakers.
            "checks": {"negative_data_rejection": {"enabled": False}, "positive_data_acceptance": {"enabled": False}},
        }
    ),
)
schemathesis.openapi.format("binary", st.sampled_from([wav(0), wav(0, "refuse whisper"), b"no recording", b""]))
schemathesis.openapi.format("uri", st.just("http://127.0.0.1:9/"))  # callbacks to private addresses are never sent


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(stand_ins(tmp_path_factory.mktemp("openapi"), whisper={"step_seconds": 0.02})) as address:
        yield address


@pytest.fixture
def ask(url: str) -> Any:
    """Asks for a path of the document, and compares the answer with it."""

    def asked(method: str, path: str, ids: dict[str, str] | None = None, **request: Any) -> requests.Response:
        response = requests.request(method, url + path.format(**ids or {}), timeout=30, **request)
        schema[path][method].validate_response(response)
        return response

    return asked


def test_the_document_is_openapi() -> None:
    schema.validate()


def test_the_document_says_where_a_key_is_needed() -> None:
    document = openapi.document(app.TABLES, keyed=True)
    schemathesis.openapi.from_dict(document).validate()
    paths = document["paths"]
    submit = paths[f"{API}/transcribe"]["post"]
    assert submit["security"] == [{"bearer": []}, {"header": []}]
    assert {"401", "403", "429"} <= submit["responses"].keys()
    assert paths["/livez"]["get"]["security"] == []


def test_what_any_request_may_be_refused_for_is_said_of_every_endpoint() -> None:
    for path, item in openapi.document(app.TABLES)["paths"].items():
        for method, operation in item.items():
            assert {"403", "417", "421", "429", "503"} <= operation["responses"].keys(), (method, path)
    assert "Readiness" in str(openapi.document(app.TABLES)["paths"]["/readyz"]["get"]["responses"]["503"])


def test_every_route_is_in_the_document_and_nothing_else(tmp_path: Path) -> None:
    routes = {
        (route.resource.canonical, route.method.lower())
        for route in app.make(stand_ins(tmp_path)).router.routes()
        if route.resource and route.method != "HEAD"  # which aiohttp adds to every GET
    }
    described = {(path, method) for path, item in openapi.document(app.TABLES)["paths"].items() for method in item}
    assert routes == described


def test_an_endpoint_that_is_not_described_is_named() -> None:
    routes = web.RouteTableDef()

    @routes.get("/forgotten")
    async def forgotten(request: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(LookupError, match=r"test_openapi.forgotten is not described"):
        openapi.document((routes,))


def test_every_error_code_is_in_the_document() -> None:
    codes = openapi.document(app.TABLES)["components"]["schemas"]["ErrorDetail"]["properties"]["code"]["enum"]
    assert {"undecodable", "queue_full", "internal"} < set(codes)
    assert set(codes) == set(get_args(ErrorCode))


@schema.exclude(path=f"{API}/drain").parametrize()  # after which everything is 503
def test_whatever_is_asked_the_answer_is_as_described(case: schemathesis.Case[Any], url: str) -> None:
    case.call_and_validate(base_url=url)


def test_a_task_from_its_acceptance_to_its_result_is_as_described(ask: Any) -> None:
    accepted = ask("POST", f"{API}/transcribe/async", files={"file": wav(3)}, headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
    task = {"task_id": accepted.json()["task_id"]}
    assert accepted.headers["Location"] == f"{API}/status/{task['task_id']}"
    events = ask("GET", f"{API}/events/{{task_id}}", task).text
    assert set(re.findall("^event: (.*)$", events, re.MULTILINE)) == {"progress", "segment", "done"}
    assert ask("GET", f"{API}/status/{{task_id}}", task).json()["status"]["status"] == "completed"
    for format in FORMATS:
        assert ask("GET", f"{API}/result/{{task_id}}", task, params={"format": format}).status_code == 200
    assert ask("GET", f"{API}/tasks", params={"status": "completed"}).json()["tasks"]
    assert ask("DELETE", f"{API}/tasks/{{task_id}}", task).json()["status"]["status"] == "completed"
    for path in ("status", "result", "events"):
        assert ask("GET", f"{API}/{path}/{{task_id}}", task).status_code == 404


def test_a_drain_is_as_described(ask: Any) -> None:
    assert [ask(method, f"{API}/drain").json()["draining"] for method in ("POST", "GET", "DELETE")] == [
        True,
        True,
        False,
    ]


def test_tasks_that_fail_or_are_cancelled_are_as_described(ask: Any) -> None:
    for recording, end, code in ((wav(1, "refuse whisper"), "failed", 422), (wav(100), "cancelled", 409)):
        task = {"task_id": ask("POST", f"{API}/transcribe/async", files={"file": recording}).json()["task_id"]}
        if end == "cancelled":
            assert ask("GET", f"{API}/result/{{task_id}}", task).status_code == 409
            ask("DELETE", f"{API}/tasks/{{task_id}}", task)
        ask("GET", f"{API}/events/{{task_id}}", task)  # until it has ended
        assert ask("GET", f"{API}/status/{{task_id}}", task).json()["status"]["status"] == end
        assert ask("GET", f"{API}/result/{{task_id}}", task).status_code == code


def test_batches_are_as_described(ask: Any) -> None:
    files = [("files", wav(1)), ("files", wav(2))]
    accepted = ask("POST", f"{API}/batch/async", files=files)
    assert ask("GET", f"{API}/batches/{{batch_id}}", {"batch_id": accepted.json()["batch_id"]}).status_code == 200
    results = ask("POST", f"{API}/batch", files=[*files, ("files", b"no recording")]).json()
    assert (results["successful"], results["failed"]) == (2, 1)


def test_openais_answers_are_as_described(ask: Any) -> None:
    for path in ("/v1/audio/transcriptions", "/v1/audio/translations"):
        for format in get_args(OpenAIFormat):
            for stream in ("false", "true"):
                fields = {"response_format": format, "stream": stream, "timestamp_granularities[]": "word"}
                assert ask("POST", path, data=fields, files={"file": wav(1)}).status_code == 200


def test_answers_to_other_servers_clients_are_as_described(ask: Any) -> None:
    for output in ("txt", "json", "srt", "vtt", "tsv"):
        params = {"output": output, "diarize": "true", "word_timestamps": "true"}
        assert ask("POST", "/asr", params=params, files={"audio_file": wav(2)}).status_code == 200
    assert ask("POST", "/detect-language", files={"audio_file": wav(1)}).status_code == 200
    for format in ("json", "rttm"):
        fields = {"response_format": format}
        assert ask("POST", "/v1/audio/diarization", data=fields, files={"file": wav(2)}).status_code == 200


def test_features_say_what_the_configuration_can_do(ask: Any) -> None:
    features = ask("GET", f"{API}/features").json()
    assert features["models"]["whisper"] == {"model": "stand-in", "device": "cpu", "live": True}
    assert features["devices"] == ["cpu"]
    assert features["formats"]["output"] == list(FORMATS)
    assert features["limits"]["max_batch_files"] == 100
    assert features["parallel_processing"] is True
    assert features["features"]["source_separation"] is False


def test_the_docs_page_is_complete_and_asks_nobody_else(url: str) -> None:
    page = requests.get(f"{url}/docs", timeout=30)
    assert "default-src 'none'; script-src 'self'" in page.headers["Content-Security-Policy"]
    parts = re.findall('(?:src|href)="([^"]+)"', page.text)
    assert {part.removeprefix("docs/") for part in parts} == {"start.js", *docs.FILES}
    for part in parts:
        answer = requests.get(f"{url}/{part}", timeout=30)
        assert (answer.status_code, answer.headers["X-Content-Type-Options"]) == (200, "nosniff")
    assert "//" not in page.text + requests.get(f"{url}/docs/start.js", timeout=30).text


@pytest.mark.parametrize("name", ["index.html", "..", "%2e%2e%2f__init__.py", "..%2f..%2f__init__.py", "%00", "%ff"])
def test_only_the_pages_own_files_are_served(url: str, name: str) -> None:
    # Prepared by hand: requests would tidy the path.
    request = requests.Request("GET", url).prepare()
    request.url = f"{url}/docs/{name}"
    with requests.Session() as session:
        assert session.send(request, timeout=30).status_code == 404
