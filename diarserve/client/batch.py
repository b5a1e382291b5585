"""Folders of recordings, a few at a time. What was done is not done again, also after this program was killed."""

from __future__ import annotations

import asyncio
import collections
import hashlib
import os
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
from msgspec import Struct

from diarserve.client.errors import ClientError, Expired, NotFinished, NotFound
from diarserve.client.options import Format, fields
from diarserve.client.retries import may_pass
from diarserve.client.tasks import Accepted, Progress, TaskStatus

SUFFIXES = (
    ".aac", ".ac3", ".aif", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp2",
    ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".wav", ".webm", ".wma",
)  # fmt: skip
JOURNAL = ".diarserve-batch.jsonl"


class Item(Struct, frozen=True):
    """One recording of a batch, done or failed."""

    source: Path
    outputs: tuple[Path, ...]
    task_id: str = ""
    skipped: bool = False  # its outputs were there
    error: Exception | None = None  # ClientError, or OSError for a file


class Plan(Struct, frozen=True):
    source: Path
    outputs: Mapping[Format, Path]


class Submitted(Struct):
    """A line of the journal, for one recording with its options: its key is written down before it is sent."""

    file: str
    size: int
    modified: int  # nanoseconds
    options: str  # their digest
    key: str  # the Idempotency-Key
    task_id: str = ""  # empty: it may or may not have been accepted


class Calls(NamedTuple):
    """Of a client, with the options of the batch."""

    submit: Callable[[Path, str], Awaitable[Accepted]]  # with the Idempotency-Key
    wait: Callable[..., Awaitable[TaskStatus]]
    download: Callable[[str, Format], Awaitable[bytes]]


def recordings(source: Path | str | Iterable[Path | str]) -> list[tuple[Path, Path]]:
    """The recordings of a folder, and of folders in it, or those that are named; each with its path in the output.
    Raises FileNotFoundError."""
    if isinstance(source, (str, os.PathLike)):
        folder = Path(source)
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        found = sorted(each for each in folder.rglob("*") if each.suffix.lower() in SUFFIXES and each.is_file())
        return [(each, each.relative_to(folder)) for each in found if not each.name.startswith(".")]
    return [(Path(each), Path(Path(each).name)) for each in source]


def plans(found: Sequence[tuple[Path, Path]], output: Path, formats: Sequence[Format]) -> list[Plan]:
    """call.wav becomes call.srt. Raises ValueError where two recordings would be written to one file."""
    made = [
        Plan(source, {format: output / place.with_suffix(suffix(format)) for format in formats})
        for source, place in found
    ]
    counts = collections.Counter(path for plan in made for path in plan.outputs.values())
    for path, count in counts.items():
        if count > 1:
            raise ValueError(f"{count} of these recordings would be written to {path}: name them apart.")
    return made


def suffix(format: Format) -> str:
    return ".txt" if format == "text" else f".{format}"


async def run(
    calls: Calls,
    made: Sequence[Plan],
    output: Path,
    *,
    at_once: int,
    overwrite: bool,
    on_progress: Callable[[Path, Progress], object] | None,
    options: Mapping[str, Any],
) -> AsyncGenerator[Item, None]:
    """In the order in which they are done. Ended early, it leaves its tasks to the server; the next run of the same
    batch takes them up."""
    await asyncio.to_thread(output.mkdir, parents=True, exist_ok=True)
    journal = _Journal(output / JOURNAL, options)
    waiting = iter(made)
    running: set[asyncio.Task[Item]] = set()
    try:
        while True:
            while len(running) < at_once and (plan := next(waiting, None)):
                running.add(asyncio.create_task(_one(calls, plan, journal, overwrite, on_progress)))
            if not running:
                break
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                yield each.result()
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    journal.close()


async def _one(
    calls: Calls,
    plan: Plan,
    journal: _Journal,
    overwrite: bool,
    on_progress: Callable[[Path, Progress], object] | None,
) -> Item:
    outputs = tuple(plan.outputs.values())
    if not overwrite and all(path.exists() for path in outputs):
        return Item(plan.source, outputs, skipped=True)
    told = (lambda progress: on_progress(plan.source, progress)) if on_progress else None
    try:
        entry = journal.find(plan.source) or journal.begin(plan.source)
        try:
            contents = await _fetch(calls, plan, entry, journal, told)
        except (NotFound, Expired, NotFinished):  # of an earlier run, and no longer to be had
            entry = journal.begin(plan.source)
            contents = await _fetch(calls, plan, entry, journal, told)
        for format, content in contents.items():
            if overwrite or not plan.outputs[format].exists():
                await asyncio.to_thread(write, plan.outputs[format], content)
    except (ClientError, OSError) as error:
        if not may_pass(error):
            journal.forget(plan.source)  # the next run submits it anew
        return Item(plan.source, outputs, error=error)
    journal.forget(plan.source)
    return Item(plan.source, outputs, entry.task_id)


async def _fetch(
    calls: Calls,
    plan: Plan,
    entry: Submitted,
    journal: _Journal,
    told: Callable[[Progress], object] | None,
) -> dict[Format, bytes]:
    if not entry.task_id:
        accepted = await calls.submit(plan.source, entry.key)
        entry.task_id = accepted.task_id
        journal.write(entry)
    await calls.wait(entry.task_id, on_progress=told)
    return {format: await calls.download(entry.task_id, format) for format in plan.outputs}


def write(path: Path, content: bytes) -> None:
    """The whole file, or none. Raises OSError."""
    path = path.resolve()  # a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


class _Journal:
    """What was submitted and has no outputs yet: JSON lines, of which the last for a file counts."""

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self.path = path
        shown = sorted(fields(options)) + sorted(map(str, options.get("known_speakers") or ()))
        self._options = hashlib.sha256(repr(shown).encode()).hexdigest()[:16]
        self._entries = {entry.file: entry for entry in _lines(path)}
        self._entries = {file: entry for file, entry in self._entries.items() if entry.options}

    def find(self, source: Path) -> Submitted | None:
        """Of the same file with the same options. Raises OSError."""
        entry = self._entries.get(str(source.resolve()))
        about = self._about(source)
        return entry if entry and (entry.size, entry.modified, entry.options) == about else None

    def begin(self, source: Path) -> Submitted:
        """Raises OSError."""
        entry = Submitted(str(source.resolve()), *self._about(source), key=str(uuid4()))
        self._entries[entry.file] = entry
        self.write(entry)
        return entry

    def write(self, entry: Submitted) -> None:
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")

    def forget(self, source: Path) -> None:
        """It is done, or has failed."""
        if entry := self._entries.pop(str(source.resolve()), None):
            entry.options = ""
            self.write(entry)

    def close(self) -> None:
        if not self._entries:
            self.path.unlink(missing_ok=True)

    def _about(self, source: Path) -> tuple[int, int, str]:
        stat = source.stat()
        return stat.st_size, stat.st_mtime_ns, self._options


def _lines(path: Path) -> Iterator[Submitted]:
    if path.exists():
        for line in path.read_bytes().splitlines():
            try:
                yield msgspec.json.decode(line, type=Submitted)
            except msgspec.DecodeError:
                continue  # a line that was cut off, as its program was killed
