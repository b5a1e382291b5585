"""`diarserve transcribe FILE`: the pipeline without a server."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import msgspec
from tqdm import tqdm

from diarserve.core import configuration
from diarserve.core.errors import ServiceError
from diarserve.core.options import Options, parse
from diarserve.service.service import Service
from diarserve.tasks.task import Task, new_id
from diarserve.transcript import formats
from diarserve.transcript.document import Document


def run(arguments: Namespace) -> int:
    try:
        with arguments.file.open("rb"):
            pass  # before seconds are spent on loading models for a file that cannot be read
        document = asyncio.run(_transcribe(arguments))
    except (ServiceError, OSError) as error:
        print(f"diarserve: {error}", file=sys.stderr)
        return 1
    if arguments.format == "json":
        print(msgspec.json.format(formats.render(document, "json")[0], indent=2).decode())
    else:
        print(formats.render(document, arguments.format)[0].decode(), end="")
    return 0


async def _transcribe(arguments: Namespace) -> Document:
    fields = {"language": arguments.language, "num_speakers": arguments.num_speakers}
    options = parse(Options, {name: [str(value)] for name, value in fields.items() if value is not None})
    with tempfile.TemporaryDirectory(prefix="diarserve-") as folder:
        service = Service(configuration.load(arguments.config, log_level="error", data_dir=Path(folder)))
        await service.start()
        task = Task(service.spool.incoming / new_id(), arguments.file.name, options)
        showing = asyncio.create_task(_show(task))
        try:
            task.folder.mkdir()
            shutil.copyfile(arguments.file, task.source)
            await service.wait_ready()
            return await service.process(task)
        finally:
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing
            await service.close()


async def _show(task: Task) -> None:
    with tqdm(total=100, desc="loading models", bar_format="{desc} {bar} {n:.0f}%", leave=False, disable=None) as bar:
        while True:
            bar.set_description("loading models" if task.status == "queued" else task.status, refresh=False)
            bar.update(task.progress - bar.n)
            bar.refresh()
            await asyncio.sleep(0.2)
