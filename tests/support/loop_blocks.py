"""How long answers of a four-hour recording hold up the event loop: python -m tests.support.loop_blocks

For each shape, the longest time between two turns of the loop during a request, and how long the request took: medians
of ten requests, in CPU time of the process, which other processes do not lengthen. The client reads in the same loop.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

from aiohttp.test_utils import TestClient, TestServer

from diarserve.cli.serve import tune_interpreter
from diarserve.core.types import Format, OpenAIFormat
from diarserve.http import app
from diarserve.http.context import SERVICE
from diarserve.tasks.task import Task
from diarserve.transcript.document import Document
from tests.support.app import TRANSCRIBE, form, stand_ins, wav
from tests.support.documents import joined_document
from workers.messages import Turn, Word

WORDS = 40_000
GAP = 0.36  # seconds from word to word


def long_document(words: int = WORDS) -> Document:
    said = [Word(f" word{n}" + "." * (n % 12 == 11), n * GAP, n * GAP + 0.3, 0.87) for n in range(words)]
    turns = [Turn(n * 5.0, n * 5.0 + 4.9, f"SPEAKER_0{n % 3}") for n in range(int(words * GAP / 5))]
    return joined_document(said, turns, words * GAP, "long.wav")


class Watch:
    """The longest time between two turns of the loop."""

    async def __aenter__(self) -> Watch:
        self.longest = 0.0
        self._turning = asyncio.create_task(self._turn())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._turning.cancel()

    async def _turn(self) -> None:
        before = time.process_time()
        while True:
            await asyncio.sleep(0)
            now = time.process_time()
            self.longest, before = max(self.longest, now - before), now


async def main() -> None:
    tune_interpreter()
    document = long_document()
    with tempfile.TemporaryDirectory() as folder:
        server = TestServer(app.make(stand_ins(Path(folder))))
        async with TestClient[Any, Any](server) as client:
            service = server.app[SERVICE]
            await service.wait_ready()

            async def process(task: Task) -> Document:
                return document

            service.process = process  # type: ignore[method-assign]
            requests: list[tuple[str, str, dict[str, str]]] = [
                *((f"ours {name}", TRANSCRIBE, {"response_format": name}) for name in get_args(Format)),
                ("batch", "/api/v1/parallel/batch", {}),
                *(
                    (f"openai {name}", "/v1/audio/transcriptions", {"response_format": name, "stream": stream})
                    for name, stream in [
                        *((name, "false") for name in get_args(OpenAIFormat)),
                        ("diarized_json", "true"),
                    ]
                ),
            ]
            for title, path, fields in requests:
                if "verbose" in title:
                    path += "?timestamp_granularities[]=word&timestamp_granularities[]=segment"
                blocks, took = [], []
                for _ in range(10):
                    async with Watch() as watch:
                        began = time.process_time()
                        async with client.post(path, data=form(wav(1), **fields)) as response:
                            body = await response.read()
                            assert response.status == 200, body[:300]
                        took.append(time.process_time() - began)
                    blocks.append(watch.longest)
                block, whole = statistics.median(blocks) * 1e3, statistics.median(took) * 1e3
                print(f"{title:22} {block:6.1f} ms of {whole:6.1f} ms, {len(body) / 2**20:5.2f} MiB")


if __name__ == "__main__":
    asyncio.run(main())
