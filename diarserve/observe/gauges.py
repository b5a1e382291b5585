"""What is read afresh at every scrape: how many tasks, jobs and workers there are, and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from diarserve.core.types import Outcome, Status


@dataclass(frozen=True, slots=True)
class State:
    in_flight: int  # tasks in the pipeline
    pending: int  # recordings whose clients wait: what max_pending limits
    uploads: int  # under way: what max_uploads limits
    outcomes: Mapping[tuple[Outcome, str], int]  # tasks that ended in the pipeline, by outcome and error code
    durable: Mapping[Status, int]  # durable tasks, by status
    spool_bytes: int
    lanes: Mapping[str, Mapping[str, Any]]  # Lane.state(), by name


class Gauges(Collector):
    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        state = self._state()
        yield from _tasks(state)
        yield from _lanes(state.lanes)

    def describe(self) -> Iterable[Metric]:
        return ()  # known only at a scrape


def _tasks(state: State) -> Iterable[Metric]:
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
    yield GaugeMetricFamily(
        "diarserve_spool_bytes", "Bytes of uploads and decoded audio on the disk", state.spool_bytes
    )
    durable = GaugeMetricFamily(
        "diarserve_durable_tasks",
        "Durable tasks in the store: queued, or processing (claimed, paused ones included)",
        labels=["status"],
    )
    statuses: tuple[Status, ...] = ("queued", "processing")
    for status in statuses:
        durable.add_metric([status], state.durable.get(status, 0))
    yield durable
    ended = CounterMetricFamily(
        "diarserve_tasks",
        "Tasks that left the pipeline: completed, failed (code is the error's), cancelled, or refused for want of a"
        " worker or of disk space (durable ones are tried again)",
        labels=["outcome", "code"],
    )
    for (outcome, code), count in state.outcomes.items():
        ended.add_metric([outcome, code], count)
    yield ended


def _lanes(lanes: Mapping[str, Mapping[str, Any]]) -> Iterable[Metric]:
    depth = GaugeMetricFamily("diarserve_queue_depth", "Jobs that no worker of the lane holds yet", labels=["lane"])
    oldest = GaugeMetricFamily(
        "diarserve_queue_oldest_seconds", "Seconds for which the oldest of them has waited; 0 without", labels=["lane"]
    )
    up = GaugeMetricFamily("diarserve_workers_up", "Workers whose model is loaded", labels=["lane"])
    wanted = GaugeMetricFamily(
        "diarserve_workers_wanted", "Workers that the lane is to have now, by its scaling", labels=["lane"]
    )
    busy = GaugeMetricFamily("diarserve_workers_busy", "Workers that hold a job", labels=["lane"])
    memory = GaugeMetricFamily(
        "diarserve_gpu_memory_bytes",
        "Bytes of GPU memory: what torch uses, keeps and used at most in a worker, and what its device has left and in"
        " all",
        labels=["lane", "worker", "device", "kind"],
    )
    for name, lane in lanes.items():
        for worker in lane["workers"]:
            for kind, size in worker["memory"].items():
                memory.add_metric([name, str(worker["number"]), worker["device"], kind], size)
        depth.add_metric([name], lane["queued"])
        oldest.add_metric([name], lane["oldest_queued"])
        up.add_metric([name], sum(worker["pid"] is not None for worker in lane["workers"]))
        wanted.add_metric([name], lane["scaling"]["wanted"])
        busy.add_metric([name], sum(worker["jobs"] > 0 for worker in lane["workers"]))
    return (depth, oldest, up, wanted, busy, memory)
