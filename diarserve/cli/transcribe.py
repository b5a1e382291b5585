"""`diarserve transcribe FILE...`: with models of its own, or by a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import typer

from diarserve.cli import local, remote, targets, watch
from diarserve.cli.command import Failure, Source, Url, UsageError
from diarserve.cli.connect import asking, exit_code
from diarserve.cli.progress import Bars, bars
from diarserve.cli.targets import Recording
from diarserve.cli.transcriber import Transcriber
from diarserve.client.errors import ClientError
from diarserve.core.errors import InvalidRequest, NotReady, ServiceError
from diarserve.core.options import Options, parse
from diarserve.core.types import Format


class Wanted(NamedTuple):
    """What the command line says, beside options of the recordings."""

    files: Sequence[Source]
    watch: Path | None
    output: Path | None
    output_dir: Path | None
    formats: Sequence[Format]
    overwrite: bool
    skip_existing: bool
    as_json: bool


class Where(NamedTuple):
    config: Path | None
    server: str | None
    api_key: str | None
    at_once: int


class _Outcome(NamedTuple):
    recording: Recording
    error: Exception | None


def run(wanted: Wanted, where: Where, known_speaker: Sequence[str], fields: Mapping[str, Any]) -> int:
    """0, or 1 where a recording could not be transcribed: the others are. Raises ConfigError, UsageError and
    typer.BadParameter before anything is loaded, Failure where nothing can be transcribed."""
    references = _references(known_speaker)
    options = _options(fields, list(references))
    planned = _planned(wanted)
    urls = [file for file in wanted.files if isinstance(file, Url)]
    if urls and not where.server:
        raise UsageError(f"{urls[0]}: only a server fetches recordings.", hint="Name one: --server URL.")
    if urls and references:
        raise UsageError(f"--known-speaker goes with recordings that are sent, and {urls[0]} is not.")
    try:
        with asking():
            return asyncio.run(_run(wanted, where, options, fields, references, planned))
    except (InvalidRequest, NotReady) as error:  # of all recordings: the models, or what they cannot do
        raise Failure(error.message, code=2) from error


def _planned(wanted: Wanted) -> Sequence[Recording]:
    if wanted.watch is not None and wanted.output_dir is None:
        raise UsageError("--watch needs --output-dir DIRECTORY.")
    if not wanted.files and wanted.watch is None:
        raise UsageError("Missing argument 'FILES': recordings, or --watch FOLDER.")
    if wanted.as_json and wanted.output is None and wanted.output_dir is None:
        raise UsageError("--json needs -o or --output-dir: it tells what was written there.")
    if wanted.watch is not None and wanted.output_dir is not None:
        wanted.output_dir.mkdir(parents=True, exist_ok=True)
    if not wanted.files:
        return ()
    planned = targets.recordings(wanted.files, wanted.output, wanted.output_dir, wanted.formats)
    return targets.without_those_that_exist(
        planned, overwrite=wanted.overwrite, skip_existing=wanted.skip_existing or wanted.watch is not None
    )


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
    given = {
        name: [str(each) for each in (value if isinstance(value, list) else [value])]
        for name, value in fields.items()
        if value is not None
    }
    try:
        return parse(Options, given | {"known_speaker_names": list(known_speakers)})
    except InvalidRequest as error:
        message = error.message.removeprefix(f"{error.param}: ")
        hint = f"--{error.param.replace('_', '-')}: " if error.param else ""
        raise UsageError(f"{hint}{message}") from error


async def _run(
    wanted: Wanted,
    where: Where,
    options: Options,
    fields: Mapping[str, Any],
    references: Mapping[str, Path],
    planned: Sequence[Recording],
) -> int:
    if not planned and wanted.watch is None:  # all of them are there
        if wanted.as_json:
            typer.echo("[]")
        return 0
    shown: list[tuple[str, bytes]] = []
    with bars() as drawn:
        made: AbstractAsyncContextManager[Transcriber]
        if where.server:
            made = remote.transcriber(where.server, where.api_key, fields, references, where.at_once)
        else:
            made = local.transcriber(where.config, options, list(references.values()), drawn)
        async with made as transcriber, _arriving(wanted, planned) as recordings:
            outcomes = await _all(transcriber, recordings, wanted, drawn, shown)
    for name, text in shown:  # once nothing else is drawn
        if wanted.formats == ["text"] and len(planned) > 1:
            typer.echo(f"==> {name} <==")
        typer.echo(text, nl=False)
    if wanted.as_json:
        typer.echo(json.dumps([_told(outcome) for outcome in outcomes], indent=2))
    return max((exit_code(outcome.error) for outcome in outcomes if outcome.error), default=0)


@asynccontextmanager
async def _arriving(wanted: Wanted, planned: Sequence[Recording]) -> AsyncIterator[AsyncIterator[Recording]]:
    """Those that are named, then those that come into the folder, until Ctrl-C."""

    async def named() -> AsyncIterator[Recording]:
        for recording in planned:
            yield recording

    async def watched(folder: Path, output: Path, stopped: asyncio.Event) -> AsyncIterator[Recording]:
        async for recording in named():
            yield recording
        async for path in watch.appearing(folder, stopped):
            recording = targets.in_folder(path, output, wanted.formats)
            if wanted.overwrite or not targets.existing(recording):
                yield recording

    if wanted.watch is None or wanted.output_dir is None:
        yield named()
    else:
        with watch.stopped_by_signal() as stopped:
            yield watched(wanted.watch, wanted.output_dir, stopped)


async def _all(
    transcriber: Transcriber,
    recordings: AsyncIterator[Recording],
    wanted: Wanted,
    drawn: Bars,
    shown: list[tuple[str, bytes]],
) -> Sequence[_Outcome]:
    """In their order, so many at once."""
    places = asyncio.Semaphore(transcriber.at_once)
    running: list[asyncio.Task[_Outcome]] = []
    texts: dict[int, tuple[str, bytes]] = {}

    async def one(number: int, recording: Recording) -> _Outcome:
        try:
            with drawn.bar(recording.name) as bar:
                made = await transcriber.transcribe(recording, wanted.formats, bar)
            for format, text in made.items():
                if format in recording.targets:
                    await asyncio.to_thread(targets.write, recording.targets[format], text)
                else:
                    texts[number] = (recording.name, text)
        except (ServiceError, ClientError, OSError) as error:
            hint = getattr(error, "hint", "")
            drawn.say(f"diarserve: {recording.source}: {error}", *([f"  {hint}"] if hint else []))
            return _Outcome(recording, error)
        finally:
            places.release()
        return _Outcome(recording, None)

    try:
        async for recording in recordings:
            await places.acquire()
            running.append(asyncio.create_task(one(len(running), recording)))
        outcomes = await asyncio.gather(*running)
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    shown.extend(texts[number] for number in sorted(texts))
    return outcomes


def _told(outcome: _Outcome) -> dict[str, Any]:
    error = outcome.error
    about = {"code": getattr(error, "code", None), "message": str(error), "hint": getattr(error, "hint", "")}
    return {
        "file": str(outcome.recording.source),
        "outputs": [str(path) for path in outcome.recording.targets.values()],
        "error": about if error else None,
    }
