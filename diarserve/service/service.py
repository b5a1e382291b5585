"""The service without HTTP: lanes, pipeline, durable tasks, and what runs in the background."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from diarserve.access.audio_quota import AudioQuota
from diarserve.core.background import restart_on_error
from diarserve.core.errors import InvalidRequest, NotReady, is_temporary
from diarserve.core.options import Options
from diarserve.core.settings import MIB, Settings
from diarserve.core.types import PRIORITIES, Status
from diarserve.observe import tracer
from diarserve.observe.gauges import State
from diarserve.observe.gpus import Gpus
from diarserve.observe.loop_lag import measure_loop_lag
from diarserve.observe.metrics import Metrics
from diarserve.pool.lanes import configured_bounds, make_lanes
from diarserve.pool.scaling import Bounds
from diarserve.service import diarizer_choice, pipeline
from diarserve.service.readiness import Readiness
from diarserve.service.stored_voices import StoredVoices
from diarserve.service.task_span import task_span
from diarserve.tasks import data_directory
from diarserve.tasks.backlog import Backlog, clean_regularly
from diarserve.tasks.backup import Backups
from diarserve.tasks.recordings import LocalRecordings, SharedRecordings
from diarserve.tasks.registry import Tasks
from diarserve.tasks.spool import Spool
from diarserve.tasks.store.protocol import Store, StoreError, Waiting
from diarserve.tasks.stores import file_store, shared_store
from diarserve.tasks.task import Task
from diarserve.tasks.webhooks import Webhooks
from diarserve.transcript.document import Document
from workers.runtime.logs import log_context

log = logging.getLogger(__name__)


class Service:
    """Start it, `process` tasks or submit them to its backlog, close it."""

    backlog: Backlog  # these from `start` on
    backups: Backups
    store: Store

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError where voices are to be kept and there is no key for them, and where traces are to be sent
        and OpenTelemetry is not installed."""
        self.settings = settings
        self.metrics = Metrics()
        self.tracer = tracer.make(settings.tracing)
        limits = settings.limits
        self.spool = Spool(settings.data_dir, limits.min_free_mib * MIB, limits.reserve_mib * MIB)
        self.lanes = make_lanes(settings, self.metrics)
        self.readiness = Readiness(self.lanes, settings.diarizer)
        self.tasks = Tasks(limits.max_pending, limits.max_uploads, self.metrics)
        self.audio = AudioQuota()
        self.voices = StoredVoices(settings.voices)
        self._durable: Mapping[Status, int] = {}  # tasks in the store, here and below: as last counted
        self._waiting = Waiting({}, 0)
        self._gpus = Gpus()
        self.metrics.watch(self.state)
        self.metrics.begin(lane.name for lane in self.lanes)
        self.stopping = False
        self.draining = False
        self._lock = contextlib.ExitStack()  # of the data directory

    async def start(self) -> None:
        """Returns at once, before the models are loaded. Raises StoreError, and ConfigError where stored voices cannot
        be decrypted."""
        await asyncio.to_thread(data_directory.prepare, self.settings.data_dir)
        # The store first: it lets only one server in, and what lies in the spool may be another's.
        webhooks = await self._open()
        self.backups = Backups(self.store, self.spool, self.settings)
        try:
            self.voices.open(self.settings.data_dir / data_directory.VOICES)
            self.spool.prepare()
            await self.backlog.recover()
        except BaseException:
            await self.store.close()
            raise
        for lane in self.lanes:
            lane.start()
        background = (
            self.backlog.keep_up,
            self._run_backlog,
            partial(clean_regularly, self.backlog),
            webhooks.run,
            partial(measure_loop_lag, self.metrics),
        )
        self._background = [asyncio.create_task(restart_on_error(task)) for task in background]

    async def _open(self) -> Webhooks:
        """Raises StoreError and ConfigError."""
        settings, run = self.settings, self.run
        if settings.store.shared:
            self._lock = data_directory.lock(settings.data_dir)
            shared, objects = await shared_store(settings)
            self.store = shared
            webhooks = Webhooks(shared, settings.webhooks, self.metrics, self.tracer)
            recordings = SharedRecordings(self.spool, objects, shared)
            self.backlog = Backlog(
                shared, self.spool, recordings, self.tasks, run, webhooks.wake, settings.limits, shared
            )
        else:
            self.store = await file_store(settings)
            webhooks = Webhooks(self.store, settings.webhooks, self.metrics, self.tracer)
            local = LocalRecordings(self.spool)
            self.backlog = Backlog(self.store, self.spool, local, self.tasks, run, webhooks.wake, settings.limits)
        return webhooks

    async def stop(self) -> None:
        """Begin no more durable tasks: those under way go back to the queue, and clients that wait for one get 503.
        What `process` does goes on."""
        self.stopping = True
        for task in self._background:
            task.cancel()
        self.backlog.release_waiters()
        await asyncio.gather(*self._background, return_exceptions=True)

    def drain(self, draining: bool) -> None:
        """For maintenance: take no more work, and begin no queued task, until it is called again with False. What is
        under way goes on."""
        self.draining = draining
        self.backlog.hold(draining)

    async def end_workers(self) -> None:
        """What `process` does raises NotReady."""
        await asyncio.gather(*(lane.close() for lane in self.lanes))
        if self.lanes.cluster:
            await self.lanes.cluster.close()

    async def close(self) -> None:
        await self.stop()
        await self.end_workers()
        await self.store.close()
        self._lock.close()
        if self.tracer:
            await asyncio.to_thread(self.tracer.close)

    async def process(self, task: Task) -> Document:
        """The document of a task whose upload lies in its folder, which is removed. Raises ServiceError."""
        try:
            document = await self.run(task)
        except BaseException:  # of a cancelled task, a worker may still write into the folder
            self.spool.remove(task.folder)
            raise
        self.spool.recycle(task.folder)
        return document

    async def run(self, task: Task) -> Document:
        """As `process`, but the folder stays: a durable task's belongs to its row in the store."""
        with log_context(task.id), task_span(self.tracer, task) as span, self.tasks.track(task):
            try:
                self.readiness.require_for(task.options)
                document = await pipeline.run(
                    task,
                    self.lanes,
                    self.metrics,
                    self.spool.disk,
                    max_seconds=self.settings.limits.max_audio_seconds,
                    parallel=self.settings.parallel_processing,
                    diarizer=self.settings.diarizer,
                    voices=self.voices.chosen(task.options, task.owner),
                )
            except Exception as error:
                if not is_temporary(error):
                    self.audio.settle(task.owner, task.id, 0)
                raise
            self.audio.settle(task.owner, task.id, document.duration)
            self.tasks.record(task, document)
            if span:
                span.annotate({"diarserve.audio_seconds": document.duration, "diarserve.words": document.words})
            seconds = document.performance.processing_time
            line = "done: %.1f s of audio in %.3f s", document.duration, seconds
            asyncio.get_running_loop().call_soon(log.info, *line)  # once the answer is on its way
            return document

    def check(self, options: Options, owner: str = "") -> None:
        """Raises InvalidRequest for what this configuration cannot do and for stored voices that are not the owner's,
        and LaneUnavailable where a worker is needed that cannot start, so that nobody waits to hear it."""
        self.voices.chosen(options, owner)
        diarizer_choice.require(options, self.lanes.diarizers)
        self.readiness.require_for(options)
        accepted = self.lanes.whisper.info.get("accepts")
        if options.whisper_model and accepted is not None and options.whisper_model not in accepted:
            there = ", ".join(self.lanes.whisper.info["models"])
            message = f"The model {options.whisper_model!r} is not available here; there is: {there}."
            raise InvalidRequest(message, code="model_unavailable", param="whisper_model")

    @property
    def ready(self) -> bool:
        """Whether a request that asks for nothing special would begin at once."""
        return not (self.stopping or self.draining) and self.readiness.ready and self.backlog.connected

    def require_ready(self) -> None:
        """Raises NotReady until every model that all recordings need was loaded once, and where one cannot be."""
        self.readiness.require()

    async def wait_ready(self) -> None:
        """Wait for them. Raises NotReady with the reason if one never will be ready."""
        await self.readiness.wait()

    def lanes_state(self) -> dict[str, dict[str, Any]]:
        return {lane.name: lane.state() for lane in self.lanes}

    def scale(self, name: str, bounds: Bounds | int | None) -> dict[str, Any]:
        """Have a lane scaled between these bounds, or so many workers in it, or as the settings say (None), until the
        server ends. Its state then. 0: those that there are go, and the next job starts one. Raises KeyError."""
        lane = {lane.name: lane for lane in self.lanes}[name]
        if bounds is None:
            bounds = configured_bounds(getattr(self.settings, name))
        lane.scaler.ask(bounds)
        return lane.state()

    async def render_metrics(self, accept: str = "") -> tuple[bytes, str]:
        """What Prometheus scrapes, in a format that it accepts, and the Content-Type."""
        with contextlib.suppress(StoreError):  # its disk is full: the last counts stand
            await self.look()
        return await asyncio.to_thread(self.metrics.render, accept)

    async def look(self) -> None:
        """Count the tasks in the store, for `state`. Raises StoreError."""
        self._durable = await self.store.counts()
        self._waiting = await self.store.waiting()

    def state(self) -> State:
        """What is shown of the present. Safe in any thread."""
        limits, now = self.settings.limits, time.time()
        disk = shutil.disk_usage(self.spool.disk.folder)
        oldest = self._waiting.oldest_queued
        return State(
            ready=self.ready,
            limits={
                "max_pending": limits.max_pending,
                "max_uploads": limits.max_uploads,
                "max_queued": limits.max_queued,
                "max_sessions": self.settings.live.max_sessions,
            },
            oldest_queued={name: max(now - oldest[name], 0.0) if name in oldest else 0.0 for name in PRIORITIES},
            callbacks=self._waiting.callbacks,
            disk_free=disk.free,
            disk_total=disk.total,
            disk_kept_free=limits.min_free_mib * MIB,
            gpus=self._gpus.read(),
            in_flight=len(self.tasks),
            pending=self.tasks.slots.taken,
            uploads=self.tasks.uploads.taken,
            outcomes=self.tasks.outcomes(),
            durable=self._durable,
            spool_bytes=self.spool.size(),
            lanes=self.lanes_state(),
        )

    async def _run_backlog(self) -> None:
        with contextlib.suppress(NotReady):  # a lane cannot start: tasks stay queued, and /readyz says why
            await self.wait_ready()
            await self.backlog.run()
