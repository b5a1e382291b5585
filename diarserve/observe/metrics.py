"""What the server counts and times as it happens. The server owns the registry; workers send their timings with their
answers (prometheus_client's multiprocess mode drops exemplars and the meaning of gauges).

What is read afresh at every scrape is in diarserve.observe.gauges.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from diarserve.observe.gauges import Gauges, State

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
_RATIO = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_SHARE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


class Metrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "diarserve_http_requests_total",
            "HTTP requests answered, by route, method and status; route is the pattern, or unmatched",
            ["route", "method", "status"],
            registry=registry,
        )
        self.rejects = Counter(
            "diarserve_rejects_total", "HTTP requests answered with an error, by its code", ["code"], registry=registry
        )
        self.restarts = Counter(
            "diarserve_worker_restarts_total",
            "Workers started in place of one that ended, by how it ended: killed (by a signal) or exited",
            ["lane", "reason"],
            registry=registry,
        )
        self.scalings = Counter(
            "diarserve_scalings_total",
            "Changes of a lane's number of workers: direction up or down, or none (for want of memory); reason waiting,"
            " idle, memory, minimum, maximum, operator",
            ["lane", "direction", "reason"],
            registry=registry,
        )
        self.model_events = Counter(
            "diarserve_model_events_total",
            "Models loaded and unloaded (load, unload), batch runs that did not fit into a device's memory"
            " (out_of_memory) and that ran on a smaller model or device (fallback)",
            ["lane", "event"],
            registry=registry,
        )
        self.degraded = Counter(
            "diarserve_degraded_total", "Jobs of which a part ran on a fallback", ["lane"], registry=registry
        )
        self.loop_lag = Histogram(
            "diarserve_loop_lag_seconds",
            "Seconds by which the event loop wakes a sleeper too late, 20 times a second",
            buckets=_LAG,
            registry=registry,
        )
        self.queue_wait = Histogram(
            "diarserve_queue_wait_seconds",
            "Seconds from a finished job's entry into its lane to the start of its first batch run",
            ["lane"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage = Histogram(
            "diarserve_stage_seconds",
            "Seconds from the first to the last batch run of a stage, of completed tasks that ran the stage",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.total = Histogram(
            "diarserve_task_seconds",
            "Seconds from a task's start in the pipeline to its transcript, waiting for workers included, of completed"
            " tasks",
            buckets=_SECONDS,
            registry=registry,
        )
        self.audio = Counter("diarserve_audio_seconds_total", "Seconds of audio of completed tasks", registry=registry)
        self.real_time_factor = Histogram(
            "diarserve_real_time_factor",
            "Processing seconds (see diarserve_task_seconds) per second of audio, of completed tasks",
            buckets=_RATIO,
            registry=registry,
        )
        self.live_sessions = Gauge("diarserve_live_sessions", "Live sessions that are open", registry=registry)
        self.live_lag = Histogram(
            "diarserve_live_lag_seconds",
            "Seconds of a live session's audio that had come and were not recognized yet, each time some was",
            buckets=_SECONDS,
            registry=registry,
        )
        self.webhooks = Counter(
            "diarserve_webhooks_total",
            "Calls of callback addresses: sent (answered 2xx), failed (to be made again), given_up (the last one)",
            ["outcome"],
            registry=registry,
        )
        self.overlap = Histogram(
            "diarserve_overlap_ratio",
            "Share (0 to 1) of the shorter one of transcription and diarization in which the other ran too",
            buckets=_SHARE,
            registry=registry,
        )

    def watch(self, state: Callable[[], State]) -> None:
        """Export what `state()` says, read afresh at every scrape. It is called in any thread."""
        self.registry.register(Gauges(state))

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
