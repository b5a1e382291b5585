"""What the server counts and times as it happens. The server owns the registry; workers send their timings with their
answers (prometheus_client's multiprocess mode drops exemplars and the meaning of gauges).

What is read afresh at every scrape is in diarserve.observe.gauges. docs/metrics.md lists all metrics with the questions
that they answer; no label has a task's id, a file's name or another value without bound (diarserve.observe.labels).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from diarserve.observe import labels
from diarserve.observe.gauges import Gauges, State
from workers.messages import StepCount

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
_ANSWER = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_BOOT = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
_RATIO = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_SHARE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
_EVENTS = frozenset({"load", "unload", "out_of_memory", "fallback"})
_REASONS = ("killed", "exited", "hung", "not_started")
_CODES = ("queue_full", "not_ready", "storage_full", "model_failed", "out_of_memory", "internal")  # of the server
_MOST_KINDS = 16  # of steps, in a lane; the engines here have up to 7
_MOST_KEYS = 200


def exemplar(task: str) -> dict[str, str] | None:
    """What OpenMetrics attaches to an observation, so that one task behind a figure can be found in the log. At most
    128 characters, names included (OpenMetrics 1.0, Exemplars)."""
    return {"task_id": task} if 0 < len(task) <= 64 else None


class Metrics:
    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, which nobody asks for
        self.registry = registry = CollectorRegistry()
        self._kinds: dict[str, labels.FewValues] = defaultdict(lambda: labels.FewValues(_MOST_KINDS))
        self._keys = labels.FewValues(_MOST_KEYS)
        self.build = Info("diarserve_build", "The server's version, and Python's", registry=registry)
        self.config = Info(
            "diarserve_config",
            "Hash of the settings without their secrets: it differs where they do",
            registry=registry,
        )
        self.requests = Counter(
            "diarserve_http_requests_total",
            "HTTP requests answered, by route, method and status; route is the pattern, or unmatched; status 499: the"
            " client was gone before its answer",
            ["route", "method", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "diarserve_http_request_seconds",
            "Seconds from a request's head to the end of its answer, by route and class of status (2xx); a stream or"
            " a live session counts when it ends",
            ["route", "status"],
            buckets=_ANSWER,
            registry=registry,
        )
        self.rejects = Counter(
            "diarserve_rejects_total", "HTTP requests answered with an error, by its code", ["code"], registry=registry
        )
        self.key_requests = Counter(
            "diarserve_key_requests_total",
            "Requests let in with an access key; key is the first 8 hexadecimal digits of the SHA-256 of its name",
            ["key"],
            registry=registry,
        )
        self.restarts = Counter(
            "diarserve_worker_restarts_total",
            "Workers started in place of one that ended, by how it ended: killed (by a signal), exited (by itself, as"
            " one does whose step takes too long), hung (it was silent for too long and killed), not_started",
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
        self.boot = Histogram(
            "diarserve_worker_boot_seconds",
            "Seconds that a worker took to import, load and warm up its model",
            ["lane"],
            buckets=_BOOT,
            registry=registry,
        )
        self.job_retries = Counter(
            "diarserve_job_retries_total",
            "Jobs given to a worker again, as another lost it",
            ["lane"],
            registry=registry,
        )
        self.task_retries = Counter(
            "diarserve_task_retries_total",
            "Durable tasks begun again, as an earlier server died at them",
            registry=registry,
        )
        self.model_events = Counter(
            "diarserve_model_events_total",
            "Models loaded and unloaded (load, unload), batch runs that did not fit into a device's memory"
            " (out_of_memory) and that ran on a smaller model or device (fallback)",
            ["lane", "event"],
            registry=registry,
        )
        step = ["lane", "kind"]
        self.steps = Counter(
            "diarserve_steps_total",
            "Batch runs of models, by kind (vad, asr, segment, embed, ...); workers tell every 5 s",
            step,
            registry=registry,
        )
        self.step_items = Counter(
            "diarserve_step_items_total", "Work items in these batch runs", step, registry=registry
        )
        self.step_seconds = Counter(
            "diarserve_step_seconds_total", "Seconds that these batch runs took", step, registry=registry
        )
        self.step_size = Counter(
            "diarserve_step_size_total",
            "Sizes of these batches, padding included; 1 is an item of full length",
            step,
            registry=registry,
        )
        self.step_capacity = Counter(
            "diarserve_step_capacity_total",
            "Sizes that these batches might have had: diarserve_step_size_total / this is how full they were",
            step,
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
        self.live_ended = Counter(
            "diarserve_live_sessions_ended_total",
            "Live sessions that ended, by how: completed, left (the client was gone), or an error's code",
            ["outcome"],
            registry=registry,
        )
        self.live_audio = Counter(
            "diarserve_live_audio_seconds_total", "Seconds of audio that live sessions took in", registry=registry
        )
        self.live_lag = Histogram(
            "diarserve_live_lag_seconds",
            "Seconds of a live session's audio that had come and were not recognized yet, each time some was",
            buckets=_SECONDS,
            registry=registry,
        )
        self.live_worst_lag = Gauge(
            "diarserve_live_worst_lag_seconds",
            "The same of the session that is furthest behind, now; 0 without any",
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
        """Export what `state()` says, read afresh at every scrape, and the server's own process. It is called in any
        thread."""
        self.registry.register(Gauges(state))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def begin(self, lanes: Iterable[str]) -> None:
        """Have counters begin at 0, so that `increase` sees the first event too."""
        for lane in lanes:
            for reason in _REASONS:
                self.restarts.labels(lane, reason)
            for event in _EVENTS:
                self.model_events.labels(lane, event)
            self.job_retries.labels(lane)
            self.degraded.labels(lane)
        for code in _CODES:
            self.rejects.labels(code)
        for outcome in ("sent", "failed", "given_up"):
            self.webhooks.labels(outcome)
        for outcome in ("completed", "left"):
            self.live_ended.labels(outcome)

    def count_key(self, name: str) -> None:
        """A request with the access key of that name was let in."""
        self.key_requests.labels(self._keys(labels.name_hash(name))).inc()

    def count_events(self, lane: str, events: Iterable[str], steps: Iterable[StepCount]) -> None:
        """What a worker has told. One that a hostile recording has taken over tells what it likes."""
        for event in events:
            self.model_events.labels(lane, event if event in _EVENTS else labels.OTHER).inc()
        for step in steps:
            kind = self._kinds[lane](step.kind)
            self.steps.labels(lane, kind).inc(max(step.steps, 0))
            self.step_items.labels(lane, kind).inc(max(step.items, 0))
            self.step_seconds.labels(lane, kind).inc(max(step.seconds, 0.0))
            self.step_size.labels(lane, kind).inc(max(step.size, 0.0))
            self.step_capacity.labels(lane, kind).inc(max(step.capacity, 0.0))

    def describe(self, build: Mapping[str, str], config: Mapping[str, str]) -> None:
        """What the server is."""
        self.build.info(dict(build))
        self.config.info(dict(config))

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body and its Content-Type: Prometheus' text format, or OpenMetrics, with exemplars, where the client
        accepts it."""
        encode: Any
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
