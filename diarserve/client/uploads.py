"""Forms with recordings in them, made anew for every try."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from aiohttp import FormData

from diarserve.client.options import Recording, fields

_UNNAMED = "recording"


class _Part(NamedTuple):
    field: str
    filename: str
    content: bytes | Path


class Form:
    """Fields and files of a request.

    >>> async with form([("file", "call.wav")], {"language": "en"}) as made:
    ...     await session.post(url, data=made.data())
    """

    def __init__(self, values: Iterable[tuple[str, str]], parts: Sequence[_Part]) -> None:
        self._values = list(values)
        self._parts = parts
        self._open = contextlib.ExitStack()

    def data(self) -> FormData:
        """For one try. Raises OSError where a file cannot be read."""
        self.close()
        made = FormData(quote_fields=False, default_to_multipart=True)
        for name, value in self._values:
            made.add_field(name, value)
        for field, filename, content in self._parts:
            file: BinaryIO = io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
            self._open.callback(file.close)
            made.add_field(field, file, filename=filename, content_type="application/octet-stream")
        return made

    def close(self) -> None:
        self._open.close()


@asynccontextmanager
async def form(
    recordings: Sequence[tuple[str, Recording]], options: Mapping[str, Any], *, filename: str | None = None
) -> AsyncIterator[Form]:
    """recordings: with the fields that they are sent as. filename: of the first; default: its own.

    Files that are open already are copied first: another try needs them from their beginning. Raises OSError.
    """
    values = list(fields(options))
    known: Mapping[str, Recording] = options.get("known_speakers") or {}
    values += [("known_speaker_names[]", name) for name in known]
    files = [*recordings, *(("known_speaker_references[]", reference) for reference in known.values())]
    with contextlib.ExitStack() as copies:
        parts = [await _part(field, recording, copies) for field, recording in files]
        if filename and parts:
            parts[0] = parts[0]._replace(filename=filename)
        made = Form(values, parts)
        try:
            yield made
        finally:
            made.close()


async def _part(field: str, recording: Recording, copies: contextlib.ExitStack) -> _Part:
    if isinstance(recording, (bytes, bytearray, memoryview)):
        return _Part(field, _UNNAMED, bytes(recording))
    if isinstance(recording, (str, os.PathLike)):
        path = Path(recording)
        return _Part(field, path.name, path)
    copy = copies.enter_context(tempfile.NamedTemporaryFile(prefix="diarserve-"))  # noqa: SIM115
    await asyncio.to_thread(shutil.copyfileobj, recording, copy)
    copy.flush()
    name = getattr(recording, "name", None)
    return _Part(field, Path(name).name if isinstance(name, str) else _UNNAMED, Path(copy.name))
