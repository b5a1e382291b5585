"""Transcription by a server, through the client."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from diarserve.cli import targets
from diarserve.cli.command import STDIN, Url
from diarserve.cli.progress import Bar
from diarserve.cli.targets import Recording
from diarserve.client import AsyncClient, Options
from diarserve.core.types import Format


class Remote:
    def __init__(self, client: AsyncClient, options: Options, at_once: int) -> None:
        self.at_once = at_once
        self._client = client
        self._options = options

    async def transcribe(self, recording: Recording, formats: Sequence[Format], bar: Bar) -> Mapping[Format, bytes]:
        if isinstance(recording.source, Url):
            accepted = await self._client.submit(url=recording.source, **self._options)
        else:
            source: Any = sys.stdin.buffer if recording.source == STDIN else recording.source
            accepted = await self._client.submit(source, filename=recording.name, **self._options)
        id = accepted.task_id
        await self._client.wait(id, on_progress=lambda now: bar.advance(now.progress, now.stages))
        return {format: targets.readable(await self._client.download(id, format), format) for format in formats}


@asynccontextmanager
async def transcriber(
    url: str, api_key: str | None, options: Mapping[str, Any], references: Mapping[str, Path], at_once: int
) -> AsyncIterator[Remote]:
    """options: of the form, by name; those that are None are left to the server. Raises ClientError where the server
    cannot be reached or does not let this key in."""
    given = {name: value for name, value in options.items() if value not in (None, False)}
    if references:
        given["known_speakers"] = references
    async with AsyncClient(url, api_key=api_key, patience=0) as client:
        await client.tasks(limit=1)  # before any recording is read
    async with AsyncClient(url, api_key=api_key) as client:
        yield Remote(client, cast(Options, given), at_once)
