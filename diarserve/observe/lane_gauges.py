"""What is read of the lanes at every scrape: what waits, and how their workers are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from diarserve.observe.labels import OTHER
from diarserve.observe.process_usage import usage

Lanes = Mapping[str, Mapping[str, Any]]  # Lane.state(), by name

_MEMORY_KINDS = ("allocated", "reserved", "peak", "free", "total")
_DEVICE = re.compile(r"(cpu|cuda)(:\d{1,3})?")
_MOST_MODELS = 16  # of a lane


def collect(lanes: Lanes) -> Iterable[Metric]:
    yield from _queues(lanes)
    yield from _workers(lanes)
    yield from _processes(lanes)
    yield from _models(lanes)


def _queues(lanes: Lanes) -> Iterable[Metric]:
    by = ["lane", "priority"]
    depth = GaugeMetricFamily(
        "diarserve_queue_depth", "Jobs that no worker of the lane holds yet; priority is the task's, or live", labels=by
    )
    oldest = GaugeMetricFamily(
        "diarserve_queue_oldest_seconds", "Seconds for which the oldest of them has waited; 0 without", labels=by
    )
    for name, lane in lanes.items():
        for priority, waiting in lane["waiting"].items():
            depth.add_metric([name, priority], waiting["jobs"])
            oldest.add_metric([name, priority], waiting["oldest"])
    return (depth, oldest)


def _workers(lanes: Lanes) -> Iterable[Metric]:
    wanted = GaugeMetricFamily(
        "diarserve_workers_wanted", "Workers that the lane is to have now, by its scaling", labels=["lane"]
    )
    up = GaugeMetricFamily("diarserve_workers_up", "Workers whose model is loaded", labels=["lane"])
    busy = GaugeMetricFamily("diarserve_workers_busy", "Workers that hold a job", labels=["lane"])
    jobs = GaugeMetricFamily("diarserve_worker_jobs", "Jobs that the workers hold", labels=["lane"])
    halted = GaugeMetricFamily(
        "diarserve_lane_halted", "1: none of the lane's workers can start, /readyz says why", labels=["lane"]
    )
    for name, lane in lanes.items():
        workers = lane["workers"]
        wanted.add_metric([name], lane["scaling"]["wanted"])
        up.add_metric([name], sum(worker["pid"] is not None for worker in workers))
        busy.add_metric([name], sum(worker["jobs"] > 0 for worker in workers))
        jobs.add_metric([name], sum(worker["jobs"] for worker in workers))
        halted.add_metric([name], lane["halted"] is not None)
    return (wanted, up, busy, jobs, halted)


def _processes(lanes: Lanes) -> Iterable[Metric]:
    by = ["lane", "worker"]
    memory = GaugeMetricFamily("diarserve_worker_memory_bytes", "Resident memory of a worker's process", labels=by)
    cpu = CounterMetricFamily("diarserve_worker_cpu_seconds", "CPU time of a worker's process", labels=by)
    gpu = GaugeMetricFamily(
        "diarserve_gpu_memory_bytes",
        "Bytes of GPU memory: what torch uses, keeps and used at most in a worker, and what its device has left and in"
        " all",
        labels=[*by, "device", "kind"],
    )
    for name, lane in lanes.items():
        for worker in lane["workers"]:
            labels = [name, str(worker["number"])]
            if worker["pid"] is not None and (used := usage(worker["pid"])):
                memory.add_metric(labels, used.memory_bytes)
                cpu.add_metric(labels, used.cpu_seconds)
            for kind in _MEMORY_KINDS:
                if kind in worker["memory"]:
                    gpu.add_metric([*labels, _device(worker["device"]), kind], worker["memory"][kind])
    return (memory, cpu, gpu)


def _models(lanes: Lanes) -> Iterable[Metric]:
    models = GaugeMetricFamily(
        "diarserve_model_info", "1 for each model that a lane has loaded", labels=["lane", "model", "device"]
    )
    for name, lane in lanes.items():
        said = lane["model"]
        loaded = said.get("loaded") or [said["model"]] if "model" in said else []
        for model in islice(dict.fromkeys(map(str, loaded)), _MOST_MODELS):
            models.add_metric([name, model[:64], _device(said.get("device"))], 1)
    return (models,)


def _device(said: object) -> str:
    return str(said) if _DEVICE.fullmatch(str(said)) else OTHER
