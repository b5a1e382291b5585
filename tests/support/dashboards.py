"""What is on the dashboards. tests/support/grafana.py makes config/grafana/dashboards of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.support.panels import (
    CPU_OF_WORKERS,
    LOOP_LAG,
    RATE,
    RESTARTS,
    STEPS,
    Panel,
    mean,
    quantiles,
    rate,
    ratio,
    recent,
    share_of,
)

_WORK = 'route!~"/livez|/readyz|/metrics|(/api/v1/parallel)?/stats"'
_RECORDINGS = 'route=~".*/(transcribe|transcriptions|batch)|/v1/listen"'

DASHBOARDS: Mapping[str, Sequence[Panel]] = {
    "overview": (
        Panel(
            "Servers that take work",
            "short",
            {"ready": "sum(diarserve_ready)", "{{version}}": "count by (version) (diarserve_build_info)"},
        ),
        Panel(
            "Alerts", "short", {"firing": 'count(ALERTS{alertstate="firing",alertname=~"Diarserve.*"}) or vector(0)'}
        ),
        Panel("Requests by route", "reqps", {"{{route}}": rate("diarserve_http_requests_total", "route", where=_WORK)}),
        Panel(
            "Answers by status", "reqps", {"{{status}}": rate("diarserve_http_requests_total", "status", where=_WORK)}
        ),
        Panel("Errors by code", "reqps", {"{{code}}": rate("diarserve_rejects_total", "code")}),
        Panel(
            "Share of requests that fail",
            "percentunit",
            {"5 minutes": "diarserve:work_errors:ratio_rate5m", "6 hours": "diarserve:work_errors:ratio_rate6h"},
            "Errors of the server. The objective is 0.5 % of a month's requests.",
        ),
        Panel(
            "Seconds for an answer",
            "s",
            quantiles("diarserve_http_request_seconds", "route", where=_RECORDINGS),
        ),
        Panel(
            "Requests by key",
            "reqps",
            {"{{key}}": rate("diarserve_key_requests_total", "key")},
            "By the hash of the key's name: docs/metrics.md.",
            needs="access keys",
        ),
        Panel(
            "Places taken",
            "percentunit",
            {
                "recordings": share_of("max_pending", "diarserve_pending_recordings"),
                "uploads": share_of("max_uploads", "diarserve_uploads"),
                "queued tasks": share_of("max_queued", 'diarserve_durable_tasks{status="queued"}'),
                "live sessions": share_of("max_sessions", "diarserve_live_sessions"),
            },
            "Of what the limits allow; at 1 the next is answered 429.",
        ),
        Panel(
            "Jobs that wait, by lane",
            "short",
            {"{{lane}} {{priority}}": "sum by (lane, priority) (diarserve_queue_depth)"},
        ),
        Panel(
            "Oldest job by lane",
            "s",
            {"{{lane}} {{priority}}": "max by (lane, priority) (diarserve_queue_oldest_seconds)"},
        ),
        Panel(
            "Queue wait by lane",
            "s",
            quantiles("diarserve_queue_wait_seconds", "lane"),
        ),
        Panel(
            "Processing per second of audio",
            "s",
            {"seconds": "diarserve:real_time_factor:ratio_rate5m"},
            "Waiting for workers included. Above 1 it is slower than people speak.",
        ),
        Panel(
            "Overlap of the two models",
            "percentunit",
            {"mean": "diarserve:overlap:mean_rate5m"},
            "Share of the shorter one's run in which the other ran too.",
        ),
        Panel(
            "Workers",
            "short",
            {
                "up {{lane}}": "sum by (lane) (diarserve_workers_up)",
                "wanted {{lane}}": "sum by (lane) (diarserve_workers_wanted)",
            },
        ),
        Panel(
            "Disk",
            "bytes",
            {
                "free": "sum(diarserve_disk_free_bytes)",
                "kept free": "sum(diarserve_disk_kept_free_bytes)",
                "uploads and decoded audio": "sum(diarserve_spool_bytes)",
            },
        ),
        LOOP_LAG,
        Panel(
            "The server's own process",
            "percentunit",
            {
                "CPU": f'sum by (instance) (rate(process_cpu_seconds_total{{job="diarserve"}}{RATE}))',
                "descriptors": 'process_open_fds{job="diarserve"} / process_max_fds',
            },
        ),
    ),
    "models": (
        Panel(
            "Busy workers",
            "percentunit",
            {"{{lane}}": "sum by (lane) (diarserve_workers_busy) / (sum by (lane) (diarserve_workers_up) > 0)"},
        ),
        Panel("Jobs in workers", "short", {"{{lane}}": "sum by (lane) (diarserve_worker_jobs)"}),
        Panel(
            "Models loaded",
            "short",
            {"{{lane}} {{model}} {{device}}": "sum by (lane, model, device) (diarserve_model_info)"},
        ),
        CPU_OF_WORKERS,
        Panel(
            "Memory of workers",
            "bytes",
            {"{{lane}} {{worker}}": "sum by (lane, worker) (diarserve_worker_memory_bytes)"},
        ),
        RESTARTS,
        STEPS,
        Panel(
            "Seconds of a step",
            "s",
            {"{{lane}} {{kind}}": ratio("diarserve_step_seconds_total", "diarserve_steps_total", "lane", "kind")},
        ),
        Panel(
            "Items in a step",
            "short",
            {"{{lane}} {{kind}}": ratio("diarserve_step_items_total", "diarserve_steps_total", "lane", "kind")},
        ),
        Panel(
            "Batch fill",
            "percentunit",
            {"{{lane}} {{kind}}": "diarserve:batch_fill:ratio_rate5m"},
            "1: batches are as large as they may be.",
        ),
        Panel(
            "Seconds until a worker works",
            "s",
            {
                "{{lane}}": "sum by (lane) (diarserve_worker_boot_seconds_sum)"
                " / (sum by (lane) (diarserve_worker_boot_seconds_count) > 0)"
            },
        ),
        Panel(
            "Model events",
            "short",
            {
                "{{lane}} {{event}}": recent("diarserve_model_events_total", "lane", "event"),
                "degraded jobs {{lane}}": recent("diarserve_degraded_total", "lane"),
            },
            "In ten minutes.",
        ),
        Panel(
            "Jobs tried again", "short", {"{{lane}}": recent("diarserve_job_retries_total", "lane")}, "In ten minutes."
        ),
        Panel("Lanes given up", "short", {"{{lane}}": "sum by (lane) (diarserve_lane_halted)"}),
        Panel(
            "Changes of the number of workers",
            "short",
            {"{{lane}} {{direction}} {{reason}}": recent("diarserve_scalings_total", "lane", "direction", "reason")},
            "In ten minutes.",
            needs="lanes that are scaled",
        ),
        Panel(
            "GPU memory",
            "bytes",
            {
                "used {{device}}": "sum by (device) (diarserve_gpu_device_memory_used_bytes)",
                "size {{device}}": "sum by (device) (diarserve_gpu_device_memory_size_bytes)",
            },
            needs="a GPU",
        ),
        Panel(
            "GPU utilization",
            "percentunit",
            {"{{device}}": "avg by (device) (diarserve_gpu_utilization_ratio)"},
            needs="a GPU",
        ),
        Panel(
            "GPU memory of torch",
            "bytes",
            {
                "{{lane}} {{worker}} {{kind}}": "sum by (lane, worker, kind)"
                ' (diarserve_gpu_memory_bytes{kind=~"allocated|reserved|peak"})'
            },
            needs="a GPU",
        ),
    ),
    "tasks": (
        Panel("Tasks that end", "ops", {"{{outcome}} {{code}}": rate("diarserve_tasks_total", "outcome", "code")}),
        Panel(
            "Tasks in the pipeline",
            "short",
            {"tasks": "sum(diarserve_tasks_in_flight)", "whose clients wait": "sum(diarserve_pending_recordings)"},
        ),
        Panel(
            "Audio",
            "short",
            {"seconds a second": "sum(rate(diarserve_audio_seconds_total[$__rate_interval]))"},
            "Seconds of audio transcribed in a second.",
        ),
        Panel(
            "Seconds of a task",
            "s",
            quantiles("diarserve_task_seconds", shares=(50, 95, 99)),
            "Exemplars name the task.",
        ),
        Panel(
            "Seconds by stage",
            "s",
            quantiles("diarserve_stage_seconds", "stage"),
        ),
        Panel("Mean seconds by stage", "s", {"{{stage}}": mean("diarserve_stage_seconds", "stage")}),
        Panel(
            "Processing per second of audio, by task",
            "s",
            quantiles("diarserve_real_time_factor"),
        ),
        Panel(
            "Overlap, by task",
            "percentunit",
            quantiles("diarserve_overlap_ratio", shares=(10, 50)),
        ),
        Panel("Durable tasks", "short", {"{{status}}": "max by (status) (diarserve_durable_tasks)"}),
        Panel("Oldest queued task", "s", {"{{priority}}": "max by (priority) (diarserve_durable_oldest_seconds)"}),
        Panel(
            "Tasks begun again",
            "short",
            {"in ten minutes": "sum(increase(diarserve_task_retries_total[10m]))"},
            "A server died at them.",
        ),
        Panel("Callbacks", "ops", {"{{outcome}}": rate("diarserve_webhooks_total", "outcome")}),
        Panel("Callbacks to be made", "short", {"pending": "max(diarserve_webhooks_pending)"}),
    ),
    "live": (
        Panel(
            "Sessions",
            "short",
            {"open": "sum(diarserve_live_sessions)", "limit": 'sum(diarserve_limit{name="max_sessions"})'},
        ),
        Panel(
            "Sessions that end",
            "short",
            {"{{outcome}}": recent("diarserve_live_sessions_ended_total", "outcome")},
            "In ten minutes.",
        ),
        Panel(
            "Audio",
            "short",
            {"seconds a second": "sum(rate(diarserve_live_audio_seconds_total[$__rate_interval]))"},
            "As many sessions as speak now.",
        ),
        Panel(
            "Lag",
            "s",
            {
                **quantiles("diarserve_live_lag_seconds"),
                "worst, now": "max(diarserve_live_worst_lag_seconds)",
            },
            "Seconds of audio that came and are not recognized yet.",
        ),
        Panel(
            "Live jobs that wait for a worker",
            "short",
            {"{{lane}}": 'sum by (lane) (diarserve_queue_depth{priority="live"})'},
        ),
        LOOP_LAG,
        STEPS,
        CPU_OF_WORKERS,
        RESTARTS,
    ),
}
