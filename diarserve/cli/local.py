"""Transcription without a server: its pipeline and its models, for as long as the command runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from diarserve.cli import installation, targets
from diarserve.cli.command import STDIN, Failure, Source
from diarserve.cli.progress import Bar, Bars
from diarserve.cli.targets import Recording
from diarserve.core import configuration
from diarserve.core.options import Options
from diarserve.core.settings import Settings, Subtitles
from diarserve.core.types import Format
from diarserve.service.service import Service
from diarserve.tasks.task import Task, new_id
from diarserve.transcript import formats
from diarserve.transcript.document import Document


class Local:
    def __init__(self, service: Service, options: Options, references: Sequence[Path], settings: Settings) -> None:
        self.at_once = settings.limits.running
        self._service = service
        self._options = options
        self._references = references
        self._style = settings.subtitles

    async def transcribe(self, recording: Recording, formats: Sequence[Format], bar: Bar) -> Mapping[Format, bytes]:
        task = Task(self._service.spool.incoming / new_id(), recording.name, self._options)
        showing = asyncio.create_task(_show(task, bar))
        try:
            await asyncio.to_thread(_copy, recording.source, self._references, task)
            document = await self._service.process(task)
        finally:
            showing.cancel()
        return {format: _rendered(document, format, self._style) for format in formats}


@asynccontextmanager
async def transcriber(
    config: Path | None, options: Options, references: Sequence[Path], bars: Bars
) -> AsyncIterator[Local]:
    """Raises ConfigError, Failure where the machine lacks something, NotReady where a model cannot be loaded, and
    InvalidRequest for what this configuration cannot do."""
    with tempfile.TemporaryDirectory(prefix="diarserve-", ignore_cleanup_errors=True) as folder:
        quiet = {"DIARSERVE_LOG_LEVEL": "error", **os.environ}
        settings = configuration.load(config, quiet, data_dir=Path(folder), store={})  # it is none of several servers
        if missing := [finding for finding in installation.findings(settings) if _stops(finding, options)]:
            hint = "\n  ".join([*map(str, missing[1:]), "`diarserve doctor` tells everything that is missing."])
            raise Failure(str(missing[0]), hint=hint, code=2)
        service = Service(settings)
        try:
            with bars.bar("loading models", total=None):
                await service.start()
                await service.wait_ready()
            service.check(options)
            yield Local(service, options, references, settings)
        finally:
            await service.close()


def _stops(finding: installation.Finding, options: Options) -> bool:
    needed = {*installation.REQUIRED}
    needed |= {"separate"} if options.source_separation else set()
    needed |= {"align"} if options.enhanced_alignment else set()
    return bool(finding.problem) and finding.lane in needed


def _copy(source: Source, references: Sequence[Path], task: Task) -> None:
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
    return targets.readable(formats.render(document, format, style)[0], format)


async def _show(task: Task, bar: Bar) -> None:
    while True:
        bar.advance(task.progress, task.percents())
        await asyncio.sleep(0.2)
