"""What is read afresh at every scrape: how many tasks, jobs and workers there are, and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from diarserve.core.types import Outcome, Priority, Status
from diarserve.observe import lane_gauges
from diarserve.observe.gpus import Gpu


@dataclass(frozen=True, slots=True)
class State:
    """What /metrics and /stats show of the present."""

    ready: bool  # plain requests can be served
    in_flight: int  # tasks in the pipeline
    pending: int  # recordings whose clients wait: what max_pending limits
    uploads: int  # under way: what max_uploads limits
    limits: Mapping[str, int]  # by the setting's name
    outcomes: Mapping[tuple[Outcome, str], int]  # tasks that ended in the pipeline, by outcome and error code
    durable: Mapping[Status, int]  # durable tasks, by status
    oldest_queued: Mapping[Priority, float]  # seconds for which the oldest queued durable task has waited
    callbacks: int  # due, or to be made again
    spool_bytes: int
    disk_free: int  # bytes, of the data directory's disk
    disk_total: int  # bytes
    disk_kept_free: int  # bytes that uploads leave alone
    lanes: Mapping[str, Mapping[str, Any]]  # Lane.state(), by name
    gpus: Sequence[Gpu]


class Gauges(Collector):
    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        state = self._state()
        yield from _tasks(state)
        yield from _durable(state)
        yield from _disk(state)
        yield from lane_gauges.collect(state.lanes)
        yield from _gpus(state.gpus)

    def describe(self) -> Iterable[Metric]:
        return ()  # known only at a scrape


def _tasks(state: State) -> Iterable[Metric]:
    yield GaugeMetricFamily("diarserve_ready", "1: plain requests can be served, as /readyz says", state.ready)
    yield GaugeMetricFamily(
        "diarserve_tasks_in_flight",
        "Tasks in the pipeline: waiting for a worker, or being worked on; queued durable tasks are not",
        state.in_flight,
    )
    yield GaugeMetricFamily(
        "diarserve_pending_recordings",
        "Recordings that have come and whose clients wait for the answer; max_pending is their limit",
        state.pending,
    )
    yield GaugeMetricFamily("diarserve_uploads", "Uploads under way; max_uploads is their limit", state.uploads)
    yield _by(
        "name",
        state.limits.items(),
        "diarserve_limit",
        "Settings beyond which requests are refused: max_pending, max_uploads, max_queued, max_sessions (live)",
    )
    ended = CounterMetricFamily(
        "diarserve_tasks",
        "Tasks that left the pipeline: completed, failed (code is the error's), cancelled, or refused for want of a"
        " worker or of disk space (durable ones are tried again)",
        labels=["outcome", "code"],
    )
    for (outcome, code), count in state.outcomes.items():
        ended.add_metric([outcome, code], count)
    yield ended


def _durable(state: State) -> Iterable[Metric]:
    yield _by(
        "status",
        state.durable.items(),
        "diarserve_durable_tasks",
        "Durable tasks in the store, by status; processing: claimed, paused ones included",
    )
    yield _by(
        "priority",
        state.oldest_queued.items(),
        "diarserve_durable_oldest_seconds",
        "Seconds for which the oldest queued durable task has waited; 0 without",
    )
    yield GaugeMetricFamily(
        "diarserve_webhooks_pending", "Callbacks that are due or are to be made again", state.callbacks
    )


def _disk(state: State) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "diarserve_spool_bytes", "Bytes of uploads and decoded audio on the disk", state.spool_bytes
    )
    yield GaugeMetricFamily(
        "diarserve_disk_free_bytes", "Bytes that are free on the data directory's disk", state.disk_free
    )
    yield GaugeMetricFamily("diarserve_disk_size_bytes", "Bytes of that disk in all", state.disk_total)
    yield GaugeMetricFamily(
        "diarserve_disk_kept_free_bytes",
        "Bytes of it that uploads leave alone (limits.min_free_mib): with less free they are answered 507",
        state.disk_kept_free,
    )


def _gpus(gpus: Sequence[Gpu]) -> Iterable[Metric]:
    if not gpus:
        return
    yield _by(
        "device",
        [(gpu.device, gpu.memory_used) for gpu in gpus],
        "diarserve_gpu_device_memory_used_bytes",
        "Memory of a GPU that all processes use",
    )
    yield _by(
        "device",
        [(gpu.device, gpu.memory_total) for gpu in gpus],
        "diarserve_gpu_device_memory_size_bytes",
        "Memory of a GPU in all",
    )
    yield _by(
        "device",
        [(gpu.device, gpu.utilization) for gpu in gpus],
        "diarserve_gpu_utilization_ratio",
        "Share of the time in which a kernel ran on a GPU, lately",
    )


def _by(label: str, values: Iterable[tuple[str, float]], name: str, says: str) -> GaugeMetricFamily:
    """A gauge with one label."""
    family = GaugeMetricFamily(name, says, labels=[label])
    for value, figure in values:
        family.add_metric([value], figure)
    return family
