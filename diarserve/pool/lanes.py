"""All lanes of a server, as its settings have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from diarserve.core.settings import MIB, Settings
from diarserve.core.settings import Lane as LaneSettings
from diarserve.observe.metrics import Metrics
from diarserve.pool import memory
from diarserve.pool.lane import Lane
from diarserve.pool.ray_cluster import RayCluster
from diarserve.pool.scaling import Bounds, Policy
from diarserve.pool.worker import Start
from diarserve.pool.worker_process import WorkerProcess
from diarserve.pool.worker_thread import WorkerThread
from workers.messages import MAX_CHANNELS, SAMPLE_RATE, BatchFill, WorkerSpec
from workers.runtime.privacy import OFFLINE, offline

_SAMPLE_BYTES = 4  # float32
# A worker holds up to twice its width of jobs. FFmpeg has a descriptor of its own of the recording.
_OPEN_FILES, _FILES_OF_A_JOB = 232, 3
_FILE_SLACK = 64 * MIB  # decoded before it is seen that a recording is too long; a log that is a file


@dataclass(frozen=True, slots=True)
class Lanes:
    """Iterates over those that there are."""

    decode: Lane
    whisper: Lane
    diarizers: Mapping[str, Lane]  # by the name that a request chooses them by
    separate: Lane | None
    align: Lane | None
    own_embed: Lane | None = None
    cluster: RayCluster | None = None

    @property
    def embed(self) -> Lane | None:
        """For the embeddings of speakers; None where known voices are not available."""
        return self.own_embed or self.diarizers.get("embedded")

    def __iter__(self) -> Iterator[Lane]:
        lanes = (self.decode, self.whisper, *self.diarizers.values(), self.separate, self.align, self.own_embed)
        return (lane for lane in lanes if lane)


def may_download(settings: Settings) -> bool:
    """Whether models that are not here may be fetched from their hubs. HF_HUB_OFFLINE=1 goes before the settings."""
    return settings.download_models and not offline()


def environment(settings: Settings, lane: LaneSettings) -> dict[str, str]:
    """What the lane's workers find in their environment, beside what they inherit."""
    caches = {"MPLCONFIGDIR": str(settings.data_dir.absolute() / "cache")}  # matplotlib's, which NeMo imports
    return caches | (dict.fromkeys(OFFLINE, "0") if may_download(settings) else {}) | lane.environment


def configured_bounds(lane: LaneSettings) -> Bounds:
    """Between how many workers the configuration leaves the lane."""
    low = lane.workers if lane.min_workers is None else lane.min_workers
    return Bounds(low, lane.most_workers)


def make_lanes(settings: Settings, metrics: Metrics) -> Lanes:
    """Not started yet."""
    start: Start = WorkerProcess.start if settings.use_process_pool else WorkerThread.start

    cluster = RayCluster(settings.cluster, settings.data_dir) if settings.cluster.address else None

    def lane(name: str, section: LaneSettings, start: Start = start, file_limit: int | None = None) -> Lane:
        specs = [
            WorkerSpec(
                lane=name,
                engine=section.engine,
                options=section.options(number, save_memory=settings.gpu_memory_optimization),
                environment=environment(settings, section),
                memory_limit=section.memory_limit_mib and section.memory_limit_mib * MIB,
                file_limit=file_limit,
                fill=BatchFill(section.fill_items, section.fill_within) if section.fill else None,
                step_timeout=section.step_timeout,
                log_level=settings.log_level,
                log_modules=settings.log_modules,
                open_files=_OPEN_FILES + 2 * section.width * _FILES_OF_A_JOB,
            )
            for number in range(max(len(section.devices), 1))
        ]
        if cluster and section.place == "ray":
            start = partial(cluster.start_worker, section)
        return Lane(
            specs,
            metrics,
            workers=section.workers,
            bounds=configured_bounds(section),
            policy=Policy(section.grow_after, section.shrink_after),
            free=free if section.place == "local" else lambda device: None,  # Ray knows
            start=start,
            width=section.width,
            attempts=settings.limits.attempts,
            boot_timeout=section.boot_timeout,
        )

    def free(device: str) -> int | None:
        return memory.free(device, (worker for lane in lanes for worker in lane.state()["workers"]))

    # Hostile files are read within limits: in a process, which writes no more than the longest recording takes, with
    # all of its channels.
    decoded = int(settings.limits.max_audio_seconds * SAMPLE_RATE) * _SAMPLE_BYTES * MAX_CHANNELS + _FILE_SLACK
    lanes = Lanes(
        decode=lane("decode", settings.decode, WorkerProcess.start, decoded),
        whisper=lane("whisper", settings.whisper),
        diarizers={name: lane(name, section) for name, section in settings.diarizers.items()},
        separate=lane("separate", settings.separate) if settings.separate else None,
        align=lane("align", settings.align) if settings.align else None,
        own_embed=lane("embed", settings.embed) if settings.embed else None,
        cluster=cluster,
    )
    return lanes
