"""Clients of every kind, each of which asks again and again until it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from tests.support.server import API

_SLOW_CHUNK, _SLOW_PAUSE = 8192, 0.1  # bytes, seconds: 80 kB/s
_GONE_AFTER = 1.5  # seconds at most
_POLL = 0.25  # seconds between two looks at a task


@dataclass(frozen=True, slots=True)
class Answer:
    kind: str
    at: float  # seconds since the start
    seconds: float  # that it took
    error: str | None


class Clients:
    def __init__(self, session: aiohttp.ClientSession, recordings: Sequence[bytes], seed: int) -> None:
        """session: whose base is the server."""
        self.answers: list[Answer] = []
        self._session = session
        self._recordings = recordings
        self._chance = random.Random(seed)
        self._began = time.monotonic()

    async def run(self, counts: Mapping[str, int]) -> None:
        """So many clients of each kind, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for kind, count in counts.items():
                for _ in range(count):
                    group.create_task(self._repeat(kind, KINDS[kind]))

    async def _repeat(self, kind: str, ask: Callable[[Clients], Awaitable[None]]) -> None:
        while True:
            began, error = time.monotonic(), None
            try:
                await ask(self)
            except Unexpected as unexpected:
                error = str(unexpected)
            except (aiohttp.ClientError, OSError, TimeoutError) as failure:
                error = f"{type(failure).__name__}: {failure}"
            self.answers.append(Answer(kind, began - self._began, time.monotonic() - began, error))
            await asyncio.sleep(0.5 if error else 0.05)

    def _recording(self) -> bytes:
        return self._chance.choice(self._recordings)

    def _form(self, *recordings: bytes, field: str = "file", **fields: str) -> aiohttp.FormData:
        form = aiohttp.FormData(fields)
        for number, recording in enumerate(recordings):
            form.add_field(field, recording, filename=f"{number}.wav", content_type="audio/wav")
        return form

    async def _post(self, path: str, data: object, *wanted: int) -> aiohttp.ClientResponse:
        headers = {"Prefer": "respond-async"}
        async with self._session.post(path, data=data, headers=headers) as answer:
            body = await answer.read()  # kept by the answer
            if answer.status not in wanted:
                raise Unexpected(f"{answer.status} {body[:100].decode(errors='replace')}")
            return answer

    async def _ended(self, url: str) -> None:
        """Wait until a task has ended, and fetch its result."""
        while True:
            async with self._session.get(f"{API}/status/{url}") as answer:
                status = (await answer.json())["status"]["status"]
            if status not in ("queued", "processing"):
                break
            await asyncio.sleep(_POLL)
        async with self._session.get(f"{API}/result/{url}") as answer:
            if answer.status != 200:
                raise Unexpected(f"{answer.status} {(await answer.text())[:100]}")
            await answer.read()

    async def wait(self) -> None:
        await self._post(f"{API}/transcribe", self._form(self._recording()), 200)

    async def openai(self) -> None:
        form = self._form(self._recording(), model="whisper-1", response_format="verbose_json")
        await self._post("/v1/audio/transcriptions", form, 200)

    async def task(self) -> None:
        answer = await self._post(f"{API}/transcribe/async", self._form(self._recording()), 202)
        await self._ended((await answer.json())["task_id"])

    async def batch(self) -> None:
        form = self._form(self._recording(), self._recording(), field="files")
        answer = await self._post(f"{API}/batch/async", form, 202)
        for task in (await answer.json())["tasks"]:
            await self._ended(task["task_id"])

    async def watch(self) -> None:
        answer = await self._post(f"{API}/transcribe/async", self._form(self._recording()), 202)
        async with self._session.get(f"{API}/events/{(await answer.json())['task_id']}") as events:
            if events.status != 200:
                raise Unexpected(f"{events.status} {(await events.text())[:100]}")
            async for _ in events.content.iter_any():  # the server ends it with the task
                pass

    async def bad(self) -> None:
        noise = self._chance.randbytes(50_000)
        await self._post(f"{API}/transcribe", self._form(b"no recording" + noise), 415)
        await self._post(f"{API}/transcribe", self._form(b"fLaC" + noise), 415, 422)

    async def vanish(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._chance.uniform(0, _GONE_AFTER)):
                await self._post(f"{API}/transcribe", self._form(self._recording()), 200)

    async def slow(self) -> None:
        form = self._form(self._recording())()
        written = _Written()
        await form.write(written)  # type: ignore[arg-type]
        body = bytes(written.data)

        async def dawdle() -> AsyncIterator[bytes]:
            for start in range(0, len(body), _SLOW_CHUNK):
                yield body[start : start + _SLOW_CHUNK]
                await asyncio.sleep(_SLOW_PAUSE)

        headers = {"Content-Type": form.content_type}
        async with self._session.post(f"{API}/transcribe", data=dawdle(), headers=headers) as answer:
            if answer.status != 200:
                raise Unexpected(f"{answer.status} {(await answer.text())[:100]}")


class Unexpected(Exception):
    """An answer that the client should not have got."""


class _Written:
    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, chunk: bytes) -> None:
        self.data += chunk


KINDS: Mapping[str, Callable[[Clients], Awaitable[None]]] = {
    "wait": Clients.wait,
    "openai": Clients.openai,
    "task": Clients.task,
    "batch": Clients.batch,
    "watch": Clients.watch,
    "slow": Clients.slow,
    "bad": Clients.bad,
    "vanish": Clients.vanish,
}
