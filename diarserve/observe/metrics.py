"""Every Prometheus object. The server owns the registry; workers send their timings with their answers
(prometheus_client's multiprocess mode drops exemplars and the meaning of gauges)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
_RATIO = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_SHARE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


class Metrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "diarserve_http_requests_total", "HTTP requests", ["route", "method", "status"], registry=registry
        )
        self.rejects = Counter("diarserve_rejects_total", "Requests refused, by reason", ["code"], registry=registry)
        self.tasks = Counter("diarserve_tasks_total", "Tasks ended, by outcome", ["outcome"], registry=registry)
        self.restarts = Counter(
            "diarserve_worker_restarts_total", "Workers started anew", ["lane", "reason"], registry=registry
        )
        self.model_events = Counter(
            "diarserve_model_events_total",
            "Models loaded and unloaded, and steps that did not fit into a device's memory or ran on a fallback",
            ["lane", "event"],
            registry=registry,
        )
        self.degraded = Counter(
            "diarserve_degraded_total", "Jobs that ran on a fallback in part", ["lane"], registry=registry
        )
        self.loop_lag = Histogram(
            "diarserve_loop_lag_seconds",
            "How late the event loop wakes a sleeper",
            buckets=_LAG,
            registry=registry,
        )
        self.queue_wait = Histogram(
            "diarserve_queue_wait_seconds",
            "From a job's entry into its lane to its first step",
            ["lane"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage = Histogram(
            "diarserve_stage_seconds",
            "Wall time of a stage of one task",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.total = Histogram(
            "diarserve_task_seconds",
            "From a complete upload to the finished transcript",
            buckets=_SECONDS,
            registry=registry,
        )
        self.audio = Counter("diarserve_audio_seconds_total", "Audio transcribed", registry=registry)
        self.real_time_factor = Histogram(
            "diarserve_real_time_factor",
            "Processing seconds per second of audio",
            buckets=_RATIO,
            registry=registry,
        )
        self.webhooks = Counter(
            "diarserve_webhooks_total", "Calls of callback addresses, by outcome", ["outcome"], registry=registry
        )
        self.overlap = Histogram(
            "diarserve_overlap_ratio",
            "Share of the shorter model's run in which the other ran too",
            buckets=_SHARE,
            registry=registry,
        )

    def watch(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Export the gauges of `state()` (see app.state), read afresh at every scrape."""
        self.registry.register(_State(state))

    def render(self) -> bytes:
        return generate_latest(self.registry)


class _State(Collector):
    def __init__(self, state: Callable[[], Mapping[str, Any]]) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        state = self._state()
        yield GaugeMetricFamily("diarserve_tasks_in_flight", "Tasks accepted and not ended", state["in_flight"])
        yield GaugeMetricFamily("diarserve_spool_bytes", "Bytes of uploads and decoded audio", state["spool_bytes"])
        depth = GaugeMetricFamily("diarserve_queue_depth", "Jobs waiting for a worker", labels=["lane"])
        oldest = GaugeMetricFamily("diarserve_queue_oldest_seconds", "Age of the oldest", labels=["lane"])
        up = GaugeMetricFamily("diarserve_workers_up", "Workers that are ready", labels=["lane"])
        busy = GaugeMetricFamily("diarserve_workers_busy", "Workers that hold a job", labels=["lane"])
        memory = GaugeMetricFamily(
            "diarserve_gpu_memory_bytes",
            "GPU memory: what torch uses, keeps and used at most in a worker, and what its device has left and in all",
            labels=["lane", "worker", "device", "kind"],
        )
        for name, lane in state["lanes"].items():
            for number, worker in enumerate(lane["workers"]):
                for kind, size in worker["memory"].items():
                    memory.add_metric([name, str(number), worker["device"], kind], size)
            depth.add_metric([name], lane["queued"])
            oldest.add_metric([name], lane["oldest_queued"])
            up.add_metric([name], sum(worker["pid"] is not None for worker in lane["workers"]))
            busy.add_metric([name], sum(worker["jobs"] > 0 for worker in lane["workers"]))
        yield from (depth, oldest, up, busy, memory)

    def describe(self) -> Iterable[Metric]:
        return ()  # known only at a scrape
