"""`diarserve transcribe FILE...`: the pipeline without a server."""

from __future__ import annotations

import asyncio
import collections
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from diarserve.cli import installation
from diarserve.cli.command import STDIN, UsageError, complain
from diarserve.core import configuration
from diarserve.core.errors import InvalidRequest, NotReady, ServiceError
from diarserve.core.options import Options, parse
from diarserve.core.settings import Settings, Subtitles
from diarserve.core.types import Format
from diarserve.service.service import Service
from diarserve.tasks.task import Task, new_id
from diarserve.transcript import formats
from diarserve.transcript.document import Document

_ONE_A_FILE = ("srt", "vtt", "tsv")  # formats of which several in one stream are none


class Recording(NamedTuple):
    source: Path  # or STDIN
    target: Path | None  # None: standard output

    @property
    def name(self) -> str:
        return "stdin" if self.source == STDIN else self.source.name


def run(
    config: Path | None,
    files: Sequence[Path],
    output: Path | None,
    format: Format,
    known_speaker: Sequence[str] = (),
    **fields: Any,
) -> int:
    """0, or 1 where a recording could not be transcribed: the others are. 2 where none can be. Raises ConfigError and
    UsageError before anything is loaded."""
    references = _references(known_speaker)
    options = _options(fields, list(references))
    recordings = _recordings(files, output, format)
    with tempfile.TemporaryDirectory(prefix="diarserve-", ignore_cleanup_errors=True) as folder:
        quiet = {"DIARSERVE_LOG_LEVEL": "error", **os.environ}
        settings = configuration.load(config, quiet, data_dir=Path(folder))
        if missing := [finding for finding in installation.findings(settings) if _stops(finding, options)]:
            for finding in missing:
                typer.echo(f"diarserve: {finding}", err=True)
            return 2
        try:
            return asyncio.run(_transcribe_all(settings, options, list(references.values()), recordings, format))
        except (InvalidRequest, NotReady) as error:
            complain(error)
            return 2


def _references(known: Sequence[str]) -> dict[str, Path]:
    """Recordings of known speakers by name, from NAME=FILE. Raises UsageError."""
    references: dict[str, Path] = {}
    for each in known:
        name, _, file = each.partition("=")
        if not name.strip() or not Path(file).is_file():
            raise UsageError(f"--known-speaker {each}: it takes NAME=FILE, and the file must be there.")
        if name in references:
            raise UsageError(f"--known-speaker {name}: one recording for each name.")
        references[name] = Path(file)
    return references


def _options(fields: Mapping[str, Any], known_speakers: Sequence[str]) -> Options:
    given = {name: [str(value)] for name, value in fields.items() if value is not None}
    try:
        return parse(Options, given | {"known_speaker_names": list(known_speakers)})
    except InvalidRequest as error:
        message = error.message.removeprefix(f"{error.param}: ")
        hint = f"--{error.param.replace('_', '-')}: " if error.param else ""
        raise UsageError(f"{hint}{message}") from error


def _recordings(files: Sequence[Path], output: Path | None, format: Format) -> list[Recording]:
    """Where each transcript goes. Raises UsageError where two would go to one place."""
    several = len(files) > 1
    if files.count(STDIN) > 1:
        raise UsageError("Standard input (-) can be read once.")
    if output is None:
        if several and format in _ONE_A_FILE:
            raise UsageError(f"Several recordings as {format} need -o DIRECTORY.")
        return [Recording(file, None) for file in files]
    if several and output.exists() and not output.is_dir():
        raise UsageError(f"-o {output} is a file; several recordings need a directory.")
    if not several and not output.is_dir():
        if not output.parent.is_dir():
            raise UsageError(f"-o {output}: there is no directory {output.parent}.")
        return [Recording(files[0], output)]
    suffix = "txt" if format == "text" else format
    recordings = [Recording(file, output / f"{'stdin' if file == STDIN else file.stem}.{suffix}") for file in files]
    for target, count in collections.Counter(each.target for each in recordings).items():
        if count > 1:
            raise UsageError(f"{count} of these recordings would be written to {target}: name them apart.")
        if target in files:
            raise UsageError(f"{target} is a recording and would be written over.")
    output.mkdir(parents=True, exist_ok=True)
    return recordings


def _stops(finding: installation.Finding, options: Options) -> bool:
    needed = {*installation.REQUIRED}
    needed |= {"separate"} if options.source_separation else set()
    needed |= {"align"} if options.enhanced_alignment else set()
    return bool(finding.problem) and finding.lane in needed


async def _transcribe_all(
    settings: Settings, options: Options, references: Sequence[Path], recordings: Sequence[Recording], format: Format
) -> int:
    """Raises NotReady where a model cannot be loaded, and InvalidRequest for what this configuration cannot do."""
    code, shown = 0, []
    at_a_time = asyncio.Semaphore(settings.limits.running)
    with _progress() as progress:
        loading = progress.add_task("loading models", total=None)
        async with _service(settings) as service:
            service.check(options)
            progress.remove_task(loading)
            running = [
                asyncio.create_task(_transcribe(service, recording, options, references, at_a_time, progress))
                for recording in recordings
            ]
            for recording, document in zip(recordings, running, strict=True):
                try:
                    text = _rendered(await document, format, settings.subtitles)
                    if recording.target:
                        recording.target.write_bytes(text)
                    else:
                        shown.append((recording.name, text))
                except (ServiceError, OSError) as error:
                    code = 1
                    progress.console.print(f"diarserve: {recording.source}: {error}", markup=False, highlight=False)
    for name, text in shown:  # once nothing else is drawn
        if format == "text" and len(recordings) > 1:
            typer.echo(f"==> {name} <==")
        typer.echo(text, nl=False)
    return code


@asynccontextmanager
async def _service(settings: Settings) -> AsyncIterator[Service]:
    service = Service(settings)
    await service.start()
    try:
        await service.wait_ready()
        yield service
    finally:
        await service.close()


async def _transcribe(
    service: Service,
    recording: Recording,
    options: Options,
    references: Sequence[Path],
    at_a_time: asyncio.Semaphore,
    progress: Progress,
) -> Document:
    task = Task(service.spool.incoming / new_id(), recording.name, options)
    async with at_a_time:
        bar = progress.add_task(recording.name, total=100)
        showing = asyncio.create_task(_show(task, progress, bar))
        try:
            await asyncio.to_thread(_copy, recording.source, references, task)
            return await service.process(task)
        finally:
            showing.cancel()
            progress.remove_task(bar)


def _copy(source: Path, references: Sequence[Path], task: Task) -> None:
    task.folder.mkdir(0o700)
    for number, reference in enumerate(references):
        shutil.copyfile(reference, task.reference(number))
    Path(task.source).touch(0o600)
    if source == STDIN:
        with open(task.source, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    else:
        shutil.copyfile(source, task.source)


def _rendered(document: Document, format: Format, style: Subtitles) -> bytes:
    body = formats.render(document, format, style)[0]
    return msgspec.json.format(body, indent=2) + b"\n" if format == "json" else body


@contextmanager
def _progress() -> Iterator[Progress]:
    """On standard error, and only on a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=False, disable=not console.is_terminal
    ) as bars:
        yield bars


async def _show(task: Task, progress: Progress, bar: TaskID) -> None:
    while True:
        progress.update(bar, completed=task.progress)
        await asyncio.sleep(0.2)
