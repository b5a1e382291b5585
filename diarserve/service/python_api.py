"""The service inside a Python program, without HTTP.

async with ParallelDiarizationService(max_workers=2) as service:
    document = await service.process("call.wav", num_speakers=2)
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from diarserve.core import configuration
from diarserve.core.errors import InvalidRequest, NotReady
from diarserve.core.options import Options, parse
from diarserve.core.types import Channels, Diarizer, Priority
from diarserve.service.service import Service
from diarserve.tasks.task import Task, new_id
from diarserve.transcript.document import Document

One = TypeVar("One", str, str | Path)

_REMEMBERED = 1000  # ended tasks that can be asked about


class ParallelDiarizationService:
    """Initialize it, process recordings, clean it up.

    max_workers: recordings worked on at the same time; more wait their turn.
    use_process_pool: False runs the models in threads of this process.
    config: a TOML file; the embedded default without one. The environment is laid over it, the arguments over both.
    data_dir: without one, a temporary folder for as long as the service runs.
    """

    def __init__(
        self,
        max_workers: int = 4,
        use_process_pool: bool = True,
        config: str | Path | None = None,
        data_dir: str | Path | None = None,
    ) -> None:
        if max_workers < 1:
            raise ValueError("max_workers must be at least 1")
        self._max_workers = max_workers
        self._use_process_pool = use_process_pool
        self._config = config
        self._data_dir = data_dir
        self._slots = asyncio.Semaphore(max_workers)
        self._active: dict[str, Task] = {}
        self._ended: dict[str, dict[str, Any]] = {}  # oldest first
        self._service: Service | None = None
        self._resources = AsyncExitStack()

    async def initialize(self) -> None:
        """Returns when every model is loaded. Raises NotReady with the reason where one cannot be, and ConfigError."""
        if self._service is not None:
            return
        async with AsyncExitStack() as resources:
            folder = self._data_dir or resources.enter_context(
                tempfile.TemporaryDirectory(prefix="diarserve-", ignore_cleanup_errors=True)
            )
            service = Service(
                configuration.load(
                    Path(self._config) if self._config else None,
                    {"DIARSERVE_LOG_LEVEL": "warning", **os.environ},  # a library is quiet unless asked
                    data_dir=Path(folder),
                    store={},  # it is none of several servers
                    max_workers=self._max_workers,
                    use_process_pool=self._use_process_pool,
                )
            )
            await service.start()
            resources.push_async_callback(service.close)
            await service.wait_ready()
            self._resources, self._service = resources.pop_all(), service

    async def cleanup(self) -> None:
        """End the models. What is being processed raises NotReady."""
        self._service = None
        await self._resources.aclose()

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cleanup()

    async def process(
        self,
        path: str | Path,
        options: Options | None = None,
        *,
        language: str | None = None,
        whisper_model: str | None = None,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        diarizer: Diarizer | None = None,
        channels: Channels | None = None,
        source_separation: bool | None = None,
        enhanced_alignment: bool | None = None,
        prompt: str | None = None,
        hotwords: str | None = None,
        beam_size: int | None = None,
        temperature: float | None = None,
        known_speaker_names: str | Sequence[str] | None = None,
        known_speaker_references: str | Path | Sequence[str | Path] = (),
        known_voices: str | Sequence[str] | None = None,
        speaker_embeddings: bool | None = None,
        priority: Priority | None = None,
    ) -> Document:
        """The document that POST /api/v1/parallel/transcribe answers. Cancelling the caller stops both models.

        options: what is asked of many recordings; the keyword arguments go before it. `response_format` means nothing
            here (diarserve.transcript.formats renders documents), and `callback_url` is refused.

        known_speaker_references: files with 2 to 10 s of speech of each of the known_speaker_names. One name with its
            file needs no lists.

        Raises InvalidRequest naming the option that is wrong, any other ServiceError, and OSError where the recording
        cannot be read.

        >>> await service.process("call.wav", Options(language="en", beam_size=1), num_speakers=2)
        """
        service = self._running()
        given = {
            "language": language,
            "whisper_model": whisper_model,
            "num_speakers": num_speakers,
            "min_speakers": min_speakers,
            "max_speakers": max_speakers,
            "diarizer": diarizer,
            "channels": channels,
            "source_separation": source_separation,
            "enhanced_alignment": enhanced_alignment,
            "prompt": prompt,
            "hotwords": hotwords,
            "beam_size": beam_size,
            "temperature": temperature,
            "known_speaker_names": known_speaker_names and _several(known_speaker_names),
            "known_voices": known_voices and _several(known_voices),
            "speaker_embeddings": speaker_embeddings,
            "priority": priority,
        }
        options, references = _merged(options, given), _several(known_speaker_references)
        service.check(options)
        if len(options.known_speaker_names) != len(references):
            raise InvalidRequest("Each known speaker needs a name and a reference.", param="known_speaker_references")
        task = Task(service.spool.incoming / new_id(), Path(path).name, options)
        self._active[task.id] = task
        outcome, error = "cancelled", None
        try:
            async with self._slots:
                service = self._running()
                task.folder.mkdir(0o700)
                try:
                    await asyncio.to_thread(_copy, path, task.source)
                    for number, reference in enumerate(references):
                        await asyncio.to_thread(_copy, reference, task.reference(number))
                    document = await service.process(task)
                finally:
                    service.spool.remove(task.folder)
            outcome = "completed"
            return document
        except Exception as failure:
            outcome, error = "failed", str(failure)
            raise
        finally:
            del self._active[task.id]
            task.become(outcome)
            self._remember(task, error)

    def get_processing_stats(self) -> dict[str, Any]:
        """total_tasks, completed_tasks, failed_tasks, average_processing_time and more, since `initialize`."""
        stats = self._running().tasks.stats()
        ended = stats["completed_tasks"] + stats["failed_tasks"]
        return stats | {"total_tasks": ended + len(self._active), "active_tasks": self.get_active_tasks()}

    def get_active_tasks(self) -> list[dict[str, Any]]:
        """Tasks that wait or run, oldest first: task_id, status, progress (percent) and more."""
        return [_shown(task) for task in self._active.values()]

    def get_task_status(self, task_id: str) -> dict[str, Any] | None:
        """As in `get_active_tasks`, with `error`; also of the last thousand that ended. None where there is none."""
        task = self._active.get(task_id)
        return _shown(task) if task else self._ended.get(task_id)

    def _running(self) -> Service:
        if self._service is None:
            raise NotReady("The service does not run: await initialize() first.")
        return self._service

    def _remember(self, task: Task, error: str | None) -> None:
        self._ended[task.id] = _shown(task, error)
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]


def _copy(source: str | Path, target: str) -> None:
    Path(target).touch(0o600)
    shutil.copyfile(source, target)


def _several(given: One | Sequence[One]) -> tuple[One, ...]:
    """One text or path is one, though a text is a sequence too."""
    return (given,) if isinstance(given, str | Path) else tuple(given)


def _merged(options: Options | None, given: Mapping[str, Any]) -> Options:
    """The options with what is given in their place, validated."""
    fields = options.model_dump(exclude_unset=True) if options else {}
    fields.update((name, value) for name, value in given.items() if value is not None)
    if fields.get("callback_url"):
        raise InvalidRequest("Nobody is called back here: the document is returned.", param="callback_url")
    return parse(Options, {name: _texts(value) for name, value in fields.items() if value is not None})


def _texts(value: Any) -> list[str]:
    return list(map(str, value)) if isinstance(value, tuple) else [str(value)]


def _shown(task: Task, error: str | None = None) -> dict[str, Any]:
    return {
        "task_id": task.id,
        "filename": task.filename,
        "status": task.status,
        "progress": 100.0 if task.status == "completed" else task.progress,
        "stage": task.stage,
        "stages": task.percents(),
        "created_at": task.created_at,
        "error": error,
    }
