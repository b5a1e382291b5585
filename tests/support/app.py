"""The application in the test's own process, on stand-in engines in real worker processes, and its client.
The `start` fixture begins it."""

from __future__ import annotations

import io
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import ClientResponse, FormData
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from diarserve.core.settings import Settings
from diarserve.http import context
from diarserve.http.server import Runner
from diarserve.service.service import Service
from diarserve.tasks.store.sqlite import SqliteStore
from tests.support.waiting import LIMIT, until

API = "/api/v1/parallel"
TRANSCRIBE = f"{API}/transcribe"
SLOW = {"whisper": {"step_seconds": 0.05}, "embedded": {"step_seconds": 0.05}}
SEPARATE = {"engine": "tests.support.standins:Separator"}
ALIGN = {"engine": "tests.support.standins:Aligner"}
ENDED = ("completed", "failed", "cancelled", "expired")

CONFIG = """
separate = false
[decode]
engine = "tests.support.standins:Copier"
[whisper]
engine = "tests.support.standins:Whisper"
[embedded]
engine = "tests.support.standins:Diarizer"
"""  # a server process on stand-in engines

Client = TestClient[Any, Any]
Start = Callable[..., Awaitable[Client]]
Recording = Callable[..., bytes]


class AppServer(TestServer):
    """The application as `diarserve serve` runs it."""

    async def _make_runner(self, **kwargs: Any) -> Runner:
        return Runner(self.app, **kwargs)


def wav(seconds: int = 2, order: str = "") -> bytes:
    """A WAV file that the stand-ins take: `seconds` of samples, and perhaps an order to obey."""
    data = f"order {order}\n".encode() if order else b""
    data = data.ljust(32_000 * seconds, b"\0")
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", len(data) + 36, b"WAVE", b"fmt ", 16, 1, 1, 16_000,
                       32_000, 2, 16, b"data", len(data))  # fmt: skip
    return head + data


def stand_ins(folder: Path, **sections: Any) -> Settings:
    """Settings with stand-in engines. Keyword sections are laid over them."""
    values: dict[str, Any] = {
        "data_dir": folder / "data",
        "limits": {"reserve_mib": 0},  # pytest keeps the folders of hundreds of tests
        "decode": {"engine": "tests.support.standins:Copier"},
        "whisper": {"engine": "tests.support.standins:Whisper"},
        "embedded": {"engine": "tests.support.standins:Diarizer"},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section} if isinstance(section, dict) else section
    return Settings.model_validate(values)


def form(*recordings: bytes, **fields: str) -> FormData:
    made = FormData(fields, quote_fields=False)
    for number, data in enumerate(recordings):
        made.add_field("file", io.BytesIO(data), filename=f"../../call {number}.wav", content_type="audio/wav")
    return made


def service(client: Client) -> Service:
    held: Service = client.app[context.SERVICE]
    return held


def store(client: Client) -> SqliteStore:
    """That of one server."""
    held = service(client).store
    assert isinstance(held, SqliteStore)
    return held


def spool(client: Client) -> list[Path]:
    """The folders of recordings that are held."""
    spool = service(client).spool
    return [*spool.incoming.iterdir(), *spool.durable.iterdir()]


def folders(client: Client) -> set[str]:
    return {folder.name for folder in spool(client)}


def jobs(client: Client) -> int:
    """How many the workers hold."""
    return sum(worker["jobs"] for lane in service(client).lanes_state().values() for worker in lane["workers"])


async def error(answer: ClientResponse) -> tuple[int, str]:
    body = await answer.json()
    return answer.status, body.get("error", body)["code"]  # Deepgram's shape has it at the top


async def metric(client: Client, name: str, **labels: str) -> float:
    text = await (await client.get("/metrics")).text()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


async def document(client: Client, data: FormData) -> dict[str, Any]:
    response = await client.post(TRANSCRIBE, data=data)
    assert response.status == 200, await response.text()
    body: dict[str, Any] = await response.json()
    return body


async def submit(client: Client, data: bytes, headers: dict[str, str] | None = None, **fields: str) -> str:
    answer = await client.post(f"{TRANSCRIBE}/async", data=form(data, **fields), headers=headers)
    assert answer.status == 202, await answer.text()
    id: str = (await answer.json())["task_id"]
    return id


async def status(client: Client, id: str) -> dict[str, Any]:
    answer = await client.get(f"{API}/status/{id}")
    assert answer.status == 200
    shown: dict[str, Any] = (await answer.json())["status"]
    return shown


async def reached(client: Client, id: str, *wanted: str, limit: float = LIMIT) -> dict[str, Any]:
    """The task's status, once it is one of those."""
    shown: dict[str, Any] = {}

    async def is_wanted() -> bool:
        shown.update(await status(client, id))
        assert shown["status"] in wanted or shown["status"] not in ENDED, shown
        return shown["status"] in wanted

    await until(is_wanted, limit)
    return shown
