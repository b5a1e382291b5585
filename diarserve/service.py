"""The service without its HTTP: lanes, pipeline, and tasks that survive."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from diarserve import diarizers, pipeline
from diarserve.backlog import Backlog, clean_regularly
from diarserve.errors import InvalidRequest, NotReady
from diarserve.lanes import Lane
from diarserve.metrics import Metrics
from diarserve.options import Options
from diarserve.pipeline import Lanes
from diarserve.settings import MIB, Settings
from diarserve.settings import Lane as LaneSettings
from diarserve.spool import Spool
from diarserve.sqlite import SqliteStore
from diarserve.supervisor import Start, WorkerProcess
from diarserve.tasks import Task, Tasks
from diarserve.threads import WorkerThread
from diarserve.webhooks import Webhooks
from workers.logs import about
from workers.messages import Fill, WorkerSpec

log = logging.getLogger(__name__)

_LAG_PERIOD = 0.05  # seconds


class Service:
    """Start it, `process` tasks or submit them to its backlog, close it."""

    backlog: Backlog  # these two from `start` on
    store: SqliteStore

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.lanes = make_lanes(settings, self.metrics)
        self.spool = Spool(settings.data_dir)
        self.tasks = Tasks(settings.limits.max_pending, self.metrics)
        self.metrics.watch(self.state)

    async def start(self) -> None:
        """Returns at once, before the models are loaded. Raises StoreError."""
        await asyncio.to_thread(self.settings.data_dir.mkdir, parents=True, exist_ok=True)
        # The store first: it lets only one server in, and what lies in the spool may be another's.
        self.store = await SqliteStore.open(self.settings.data_dir / "tasks.sqlite")
        webhooks = Webhooks(self.store, self.settings.webhooks, self.metrics)
        self.backlog = Backlog(self.store, self.spool, self.tasks, self.work, webhooks.wake, self.settings.limits)
        try:
            self.spool.prepare()
            await self.backlog.recover()
        except BaseException:
            await self.store.close()
            raise
        for lane in self.lanes:
            lane.start()
        background = (
            self._run_backlog,
            partial(clean_regularly, self.backlog),
            webhooks.run,
            partial(_watch_loop, self.metrics),
        )
        self._background = [asyncio.create_task(_kept_up(work)) for work in background]

    async def stop(self) -> None:
        """Begin no more tasks that survive: what was processing goes back to the queue, and who waits is told."""
        for work in self._background:
            work.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self.backlog.dismiss()

    async def close(self) -> None:
        await self.stop()
        await asyncio.gather(*(lane.close() for lane in self.lanes))
        await self.store.close()

    async def process(self, task: Task) -> dict[str, Any]:
        """The document of a task whose upload lies in its folder, which is removed. Raises ServiceError."""
        try:
            document = await self.work(task)
        except BaseException:  # a cancelled one's workers may be at it still
            self.spool.remove(task.folder)
            raise
        self.spool.recycle(task.folder)
        return document

    async def work(self, task: Task) -> dict[str, Any]:
        """As `process`, but the folder stays."""
        with about(task.id), self.tasks.track(task):
            document = await pipeline.run(
                task,
                self.lanes,
                self.metrics,
                max_seconds=self.settings.limits.max_audio_seconds,
                parallel=self.settings.parallel_processing,
                diarizer=self.settings.diarizer,
            )
            self.tasks.record(document)
            took = document["performance"]["processing_time"]
            said = "done: %.1f s of audio in %.3f s", document["duration"], took
            asyncio.get_running_loop().call_soon(log.info, *said)  # once the answer is on its way
            return document

    def check(self, options: Options) -> None:
        """Raises InvalidRequest for what this configuration cannot do, so that nobody waits to hear it."""
        diarizers.require(options, self.lanes.diarizers)
        accepted = self.lanes.whisper.info.get("accepts")
        if options.whisper_model and accepted is not None and options.whisper_model not in accepted:
            there = ", ".join(self.lanes.whisper.info["models"])
            message = f"The model {options.whisper_model!r} is not available here; there is: {there}."
            raise InvalidRequest(message, code="model_unavailable", param="whisper_model")

    def require_ready(self) -> None:
        """Raises NotReady until every model has been loaded once, and where one cannot be."""
        for lane in self.lanes:
            if lane.halted or not (lane.ready or lane.info):
                raise NotReady(f"The {lane.name} worker is not ready; see /readyz.", retry_after=5)

    async def settled(self) -> None:
        """Wait until every lane is ready. Raises NotReady with the reason if one never will be."""
        for lane in self.lanes:
            await lane.settled()
            if lane.halted:
                raise NotReady(f"The {lane.name} worker cannot start: {lane.halted}")

    def lanes_state(self) -> dict[str, dict[str, Any]]:
        return {lane.name: lane.state() for lane in self.lanes}

    def state(self) -> dict[str, Any]:
        """What the gauges of /metrics show."""
        return {"in_flight": len(self.tasks), "spool_bytes": self.spool.size(), "lanes": self.lanes_state()}

    async def _run_backlog(self) -> None:
        with contextlib.suppress(NotReady):  # a lane cannot start: tasks stay queued, and /readyz says why
            await self.settled()
            await self.backlog.run()


async def _watch_loop(metrics: Metrics) -> None:
    """Measure how late the event loop is: what blocks it delays every client."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LAG_PERIOD
        await asyncio.sleep(_LAG_PERIOD)
        metrics.loop_lag.observe(max(0.0, loop.time() - due))


async def _kept_up(work: Callable[[], Awaitable[None]]) -> None:
    """Work in the background, begun again should it fail: nobody waits for it who could be told."""
    while True:
        try:
            return await work()
        except Exception:
            log.exception("work in the background failed and begins again")
            await asyncio.sleep(5)


def make_lanes(settings: Settings, metrics: Metrics) -> Lanes:
    start: Start = WorkerProcess.start if settings.use_process_pool else WorkerThread.start

    def lane(name: str, section: LaneSettings, start: Start = start) -> Lane:
        specs = [
            WorkerSpec(
                lane=name,
                engine=section.engine,
                options=section.options(number, save_memory=settings.gpu_memory_optimization),
                environment=section.environment,
                memory_limit=section.memory_limit_mib and section.memory_limit_mib * MIB,
                fill=Fill(section.fill_units, section.fill_within) if section.fill else None,
                step_timeout=section.step_timeout,
                log_level=settings.log_level,
                log_modules=settings.log_modules,
            )
            for number in range(section.workers)
        ]
        return Lane(
            specs,
            metrics,
            start=start,
            width=section.width,
            attempts=settings.limits.attempts,
            boot_timeout=section.boot_timeout,
        )

    return Lanes(
        decode=lane("decode", settings.decode, WorkerProcess.start),  # hostile files are read within limits
        whisper=lane("whisper", settings.whisper),
        diarizers={
            name: lane("diarize" if name == "embedded" else name, section)
            for name, section in settings.diarizers.items()
        },
        separate=lane("separate", settings.separate) if settings.separate else None,
        align=lane("align", settings.align) if settings.align else None,
    )
