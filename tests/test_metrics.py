"""What operators see at /metrics and /stats: complete, clean, of bounded size, and the same in both."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics

from diarserve.observe import labels
from diarserve.observe.gpus import Gpus
from diarserve.observe.metrics import Metrics
from diarserve.observe.process_usage import usage
from tests.support.app import (
    API,
    SLOW,
    TRANSCRIBE,
    Client,
    Recording,
    Start,
    document,
    form,
    jobs,
    metric,
    reached,
    submit,
)
from tests.support.paths import REPOSITORY
from tests.support.waiting import until
from workers.engine import WorkItem
from workers.messages import StepCount
from workers.runtime.running import Pick, Step
from workers.runtime.step_counts import StepCounts

OPEN_METRICS = {"Accept": "application/openmetrics-text;version=1.0.0"}
FAMILY = re.compile(r"^# TYPE (\S+) ", re.MULTILINE)


def families(text: str) -> set[str]:
    return {name for name in FAMILY.findall(text) if name.startswith("diarserve_")}


async def scrape(client: Client, headers: dict[str, str] | None = None) -> str:
    answer = await client.get("/metrics", headers=headers)
    assert answer.status == 200
    return await answer.text()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_finds_nothing_to_say_of_the_metrics(start: Start, recording: Recording) -> None:
    client = await start()
    await document(client, form(recording()))
    check = partial(subprocess.run, ("promtool", "check", "metrics"), capture_output=True, text=True, check=False)
    done = await asyncio.to_thread(check, input=await scrape(client))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_a_figure_names_a_task_behind_it_in_openmetrics(start: Start, recording: Recording) -> None:
    client = await start()
    id = (await document(client, form(recording())))["task_id"]
    found = {
        sample.name
        for family in open_metrics(await scrape(client, OPEN_METRICS))  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar and sample.exemplar.labels == {"task_id": id}
    }
    names = ("task_seconds", "stage_seconds", "queue_wait_seconds", "real_time_factor", "overlap_ratio")
    assert found == {f"diarserve_{name}_bucket" for name in names}
    assert id not in await scrape(client)  # nor anywhere else


async def test_what_waits_is_told_by_priority(start: Start, recording: Recording) -> None:
    client = await start(whisper={"width": 1, **SLOW["whisper"]})
    low = await submit(client, recording(1000), priority="low")
    await until(lambda: jobs(client) >= 1)
    await reached(client, low, "processing")
    for priority in ("low", "normal"):
        await submit(client, recording(1000), priority=priority)

    async def waiting() -> bool:
        # The normal one overtakes the first low one.
        by = [await metric(client, "diarserve_queue_depth", lane="whisper", priority=name) for name in ("low", "high")]
        return by == [1, 0]

    await until(waiting)
    assert await metric(client, "diarserve_queue_oldest_seconds", lane="whisper", priority="low") > 0
    assert await metric(client, "diarserve_queue_oldest_seconds", lane="whisper", priority="high") == 0


async def test_stats_shows_what_metrics_shows(start: Start, recording: Recording) -> None:
    client = await start(limits={"running": 1}, **SLOW)
    await document(client, form(recording()))
    ids = [await submit(client, recording(1000)) for _ in range(2)]
    await reached(client, ids[0], "processing")
    await until(lambda: jobs(client) > 0)
    stats: Any = await (await client.get("/stats")).json()

    async def mean(name: str, **by: str) -> float:
        return await metric(client, f"{name}_sum", **by) / await metric(client, f"{name}_count", **by)

    assert stats["completed_tasks"] == await metric(client, "diarserve_tasks_total", outcome="completed") == 1
    assert stats["average_processing_time"] == await mean("diarserve_task_seconds") > 0
    for stage in ("decode", "transcribe", "diarize"):
        assert stats["average_stage_times"][stage] == await mean("diarserve_stage_seconds", stage=stage) >= 0
    for status, count in stats["store"]["tasks"].items():
        assert count == await metric(client, "diarserve_durable_tasks", status=status)
    for name, lane in stats["lanes"].items():
        assert len(lane["workers"]) == await metric(client, "diarserve_workers_wanted", lane=name) == 1
        assert lane["ready"] == await metric(client, "diarserve_workers_up", lane=name) == 1
    assert await metric(client, "diarserve_durable_oldest_seconds", priority="normal") > 0
    assert await metric(client, "diarserve_durable_oldest_seconds", priority="high") == 0


def test_steps_and_how_full_they_were_are_counted_by_kind() -> None:
    counts = StepCounts()
    job: Any = None
    for sizes in ((1.0, 0.5), (2.0,)):
        picks = [Pick(job, number, WorkItem(("asr", "base"), None, size=size)) for number, size in enumerate(sizes)]
        counts.add(Step(picks, [], 0.0, on_fallback=False), capacity=4.0, seconds=0.5)
    counts.add(Step([Pick(job, 0, WorkItem("vad", None, size=9.0))], [], 0.0, on_fallback=False), 4.0, 0.25)
    # Two items of at most 1 count as 2; an item that is larger than a batch may be goes in alone, and fills it.
    assert counts.take() == (StepCount("asr", 2, 3, 4.0, 8.0, 1.0), StepCount("vad", 1, 1, 9.0, 9.0, 0.25))
    assert counts.take() == ()


async def test_workers_tell_their_memory_and_time(start: Start) -> None:
    client = await start()
    assert await metric(client, "diarserve_worker_memory_bytes", lane="whisper", worker="0") > 2**20
    assert await metric(client, "diarserve_worker_cpu_seconds_total", lane="whisper", worker="0") > 0
    assert await metric(client, "diarserve_worker_boot_seconds_count", lane="whisper") == 1
    assert await metric(client, "diarserve_model_info", lane="whisper", model="stand-in", device="cpu") == 1
    assert await metric(client, "diarserve_ready") == 1
    assert await metric(client, "process_resident_memory_bytes") > 0
    assert usage(1) is None  # no child of this process


async def test_a_worker_that_does_not_start_is_counted_as_that(start: Start, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    client = await start(wait=False, embedded={"boot": f"die while {tmp_path / 'broken'}"}, whisper={"boot": "fail"})
    by = {"lane": "embedded", "reason": "not_started"}
    await until(lambda: metric(client, "diarserve_worker_restarts_total", **by))
    (tmp_path / "broken").unlink()
    await until(lambda: metric(client, "diarserve_workers_up", lane="embedded"))
    await until(lambda: metric(client, "diarserve_lane_halted", lane="whisper"))
    assert await metric(client, "diarserve_lane_halted", lane="embedded") == 0
    assert await metric(client, "diarserve_ready") == 0


async def test_labels_stay_few_whatever_is_sent(start: Start, recording: Recording) -> None:
    client = await start()

    async def series(numbers: range) -> set[str]:
        """All that there are, once clients have sent what is new each time."""
        for number in numbers:
            await client.get(f"/nowhere/{number}?{number}")
            await client.get(f"{API}/status/{number:032}")
            await client.request(f"PURGE{number}", f"/{number}")
            await client.post(TRANSCRIBE, data=form(recording(), priority=f"p{number}", whisper_model=f"m{number}"))
            await document(client, form(recording(), prompt=f"{number}"))
        await scrape(client)
        found = {line.rpartition(" ")[0] for line in (await scrape(client)).splitlines()}
        return {one for one in found if not one.startswith("diarserve_step")}  # told every 5 s: the next test's

    before = await series(range(20))
    assert await series(range(20, 60)) == before
    assert len(before) < 2000


def test_what_a_hostile_worker_says_becomes_few_labels() -> None:
    metrics = Metrics()
    for number in range(1000):
        steps = (StepCount(f"kind{number}", 1, 1, 1.0, 1.0, -1.0), StepCount("no word\n", 1, 1, 1.0, 1.0, 1.0))
        metrics.count_events("decode", (f"event{number}", "load"), steps)
        metrics.count_key(f"key{number}")
    text = metrics.render()[0].decode()
    lines = Counter(line.split("{")[0] for line in text.splitlines())
    assert lines["diarserve_steps_total"] == 17
    assert lines["diarserve_model_events_total"] == 2
    assert lines["diarserve_key_requests_total"] == 201
    assert metrics.registry.get_sample_value("diarserve_steps_total", {"lane": "decode", "kind": "other"}) == 1984


def test_a_key_is_counted_under_the_hash_of_its_name() -> None:
    assert labels.name_hash("app") == "a172cedc"  # printf %s app | sha256sum | cut -c1-8


def test_without_a_driver_there_are_no_gpus() -> None:
    gpus = Gpus()
    assert gpus.read() == gpus.read()
    assert bool(gpus.read()) == bool(shutil.which("nvidia-smi"))


def test_what_the_driver_says_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As NVML's functions are documented: no GPU is needed. One of two cannot be read."""

    def utilization(handle: int) -> Any:
        if handle == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(gpu=37)

    said = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=3 * 2**30, total=80 * 2**30),
        "nvmlDeviceGetUtilizationRates": utilization,
    }
    for name, function in said.items():
        monkeypatch.setattr(pynvml, name, function)
    assert Gpus().read() == [("0", 3 * 2**30, 80 * 2**30, 0.37)]


async def test_the_list_of_metrics_is_complete(start: Start, recording: Recording) -> None:
    """docs/metrics.md names each with the question that it answers; alone those of a GPU need not be there."""
    client = await start()
    await document(client, form(recording()))
    listed = set(re.findall(r"^\| `(diarserve_\w+)", (REPOSITORY / "docs/metrics.md").read_text(), re.MULTILINE))
    there = families(await scrape(client))
    assert there - listed == set()
    assert {name for name in listed - there if "gpu" not in name} == set()
