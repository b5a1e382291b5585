"""`diarserve transcribe FILE`: the pipeline without a server."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import orjson
from tqdm import tqdm

from diarserve import app, formats, forms, pipeline
from diarserve import settings as config
from diarserve.errors import NotReady, ServiceError
from diarserve.metrics import Metrics
from diarserve.tasks import Task


def transcribe(arguments: Namespace) -> int:
    try:
        document = asyncio.run(_run(arguments))
    except (ServiceError, OSError) as error:
        print(f"diarserve: {error}", file=sys.stderr)
        return 1
    if arguments.format == "json":
        print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        print(formats.text(document), end="")
    return 0


async def _run(arguments: Namespace) -> dict[str, Any]:
    settings = config.load(arguments.config, log_level="error")
    fields = {"language": arguments.language, "num_speakers": arguments.num_speakers}
    options = forms.parse({name: str(value) for name, value in fields.items() if value is not None})
    metrics = Metrics()
    lanes = app.make_lanes(settings, metrics)
    with tempfile.TemporaryDirectory(prefix="diarserve-") as folder:
        task = Task(Path(folder), filename=arguments.file.name, options=options)
        shutil.copyfile(arguments.file, task.source)
        for lane in lanes:
            lane.start()
        showing = asyncio.create_task(_show(task))
        try:
            for lane in lanes:
                await lane.settled()
                if lane.halted:
                    raise NotReady(f"The {lane.name} worker cannot start: {lane.halted}")
            return await pipeline.run(
                task,
                lanes,
                metrics,
                max_seconds=settings.limits.max_audio_seconds,
                parallel=settings.parallel_processing,
            )
        finally:
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing
            await asyncio.gather(*(lane.close() for lane in lanes))


async def _show(task: Task) -> None:
    with tqdm(total=100, desc="loading models", bar_format="{desc} {bar} {n:.0f}%", leave=False) as bar:
        while True:
            bar.set_description("loading models" if task.status == "receiving" else task.status, refresh=False)
            bar.update(task.progress - bar.n)
            bar.refresh()
            await asyncio.sleep(0.2)
