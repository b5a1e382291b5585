"""What a recording passes through beyond the two models, which diarizer it goes to, and devices that are too small.
On stand-in engines in real processes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from types import ModuleType
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from diarserve.core.settings import Settings
from tests.support.app import ALIGN, SEPARATE, TRANSCRIBE, Recording, Start, document, error, form, metric
from tests.support.standins import StandIn
from workers.runtime import devices
from workers.runtime.scheduler import Scheduler


async def test_separation_comes_first_and_alignment_after_whisper(start: Start, recording: Recording) -> None:
    client = await start(separate=SEPARATE, align=ALIGN)
    answer = await document(
        client, form(recording(3), source_separation="true", enhanced_alignment="true", language="de")
    )
    assert answer["models"] == {
        "whisper": "stand-in",
        "diarization": "stand-in",
        "alignment": "stand-in for de",
        "source_separation": "stand-in",
        "speaker_confidence": "coverage",
    }
    assert [(word["start"], word["end"]) for segment in answer["segments"] for word in segment["words"]] == [
        (pytest.approx(n + 0.4), pytest.approx(n + 0.6)) for n in range(3)
    ]
    assert answer["warnings"] == []
    assert answer["performance"]["separation_time"] > 0
    assert answer["performance"]["forced_alignment_time"] > 0


async def test_without_them_the_answer_says_so(start: Start, recording: Recording) -> None:
    client = await start()
    answer = await document(client, form(recording(), source_separation="true", enhanced_alignment="true"))
    assert (answer["models"]["alignment"], answer["models"]["source_separation"]) == ("whisper cross-attention", None)
    assert [warning.split()[0] for warning in answer["warnings"]] == ["source_separation", "enhanced_alignment"]


async def test_a_killed_separator_costs_no_answer(start: Start, recording: Recording) -> None:
    client = await start(separate=SEPARATE)
    answer = await document(client, form(recording(3, "kill-once separate"), source_separation="true"))
    assert (answer["text"], answer["models"]["source_separation"]) == ("w0 w1 w2", "stand-in")
    assert await metric(client, "diarserve_worker_restarts_total", lane="separate", reason="killed") == 1


# Which diarizer


def diarizers(**limits: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"engine": "tests.support.standins:Diarizer", "limits": {"model": name, **limits.get(name, {})}}
        for name in ("sortformer", "clustering")
    }


SMALL = diarizers(sortformer={"max_speakers": 4, "max_seconds": 5})


@pytest.mark.parametrize(
    ("seconds", "fields", "chosen"),
    [
        (2, {}, "sortformer"),
        (2, {"num_speakers": "4"}, "sortformer"),
        (2, {"num_speakers": "5"}, "clustering"),
        (2, {"min_speakers": "5"}, "clustering"),
        (2, {"max_speakers": "9"}, "sortformer"),
        (6, {}, "clustering"),
        (6, {"diarizer": "sortformer"}, "sortformer"),
        (2, {"diarizer": "clustering"}, "clustering"),
        (2, {"diarizer": "embedded"}, "stand-in"),
    ],
)
async def test_the_diarizer_is_chosen_by_what_is_asked_and_heard(
    all_diarizers: TestClient[Any, Any], recording: Recording, seconds: int, fields: dict[str, str], chosen: str
) -> None:
    answer = await document(all_diarizers, form(recording(seconds), **fields))
    assert answer["models"]["diarization"] == chosen


@pytest.fixture
async def all_diarizers(start: Start) -> TestClient[Any, Any]:
    return await start(**SMALL)


async def test_a_diarizer_that_is_not_there_is_refused(start: Start, recording: Recording) -> None:
    client = await start()
    refused = await client.post(TRANSCRIBE, data=form(recording(), diarizer="sortformer"))
    assert await error(refused) == (400, "diarizer_unavailable")
    assert "auto, embedded" in await refused.text()


def test_a_diarizer_is_needed(settings: Callable[..., Settings]) -> None:
    with pytest.raises(ValueError, match="one of"):
        settings(embedded=None)
    with pytest.raises(ValueError, match="not configured"):
        settings(diarizer="sortformer")


async def test_a_whisper_model_that_is_not_there_is_refused_before_anything_is_done(
    start: Start, recording: Recording
) -> None:
    client = await start(whisper={"limits": {"accepts": ["tiny.en"], "models": ["tiny.en"]}})
    refused = await client.post(TRANSCRIBE, data=form(recording(), whisper_model="huge"))
    assert await error(refused) == (400, "model_unavailable")
    assert "tiny.en" in await refused.text()
    assert (await document(client, form(recording(), whisper_model="tiny.en")))["degraded"] is False


# Devices whose memory is too small


async def test_a_step_that_does_not_fit_is_tried_smaller_and_then_on_the_fallback(
    start: Start, recording: Recording
) -> None:
    client = await start(whisper={"batch": 4})
    answer = await document(client, form(recording(6, "full whisper")))
    assert answer["text"] == "w0 w1 w2 w3 w4 w5"
    assert answer["degraded"] is True
    assert await metric(client, "diarserve_degraded_total", lane="whisper") == 1
    # Batches of 4 and 2 with the second word in them, and that word alone.
    assert await metric(client, "diarserve_model_events_total", lane="whisper", event="out_of_memory") == 3
    assert await metric(client, "diarserve_model_events_total", lane="whisper", event="fallback") == 1
    again = await document(client, form(recording(6)))
    assert again["degraded"] is False


async def test_without_a_fallback_it_is_refused(start: Start, recording: Recording) -> None:
    client = await start()
    response = await client.post(TRANSCRIBE, data=form(recording(3, "full-for-ever whisper")))
    assert await error(response) == (503, "out_of_memory")
    assert (await document(client, form(recording(3))))["text"] == "w0 w1 w2"


async def test_a_broken_device_ends_its_worker_and_the_next_answers(start: Start, recording: Recording) -> None:
    client = await start()
    answer = await document(client, form(recording(3, "broken-once whisper")))
    assert (answer["text"], answer["degraded"]) == ("w0 w1 w2", False)
    assert await metric(client, "diarserve_worker_restarts_total", lane="whisper", reason="exited") == 1


@pytest.mark.parametrize(
    "engine",
    [
        "workers.whisper.engine:Whisper",
        "workers.diarize.embedded.engine:EmbeddedDiarizer",
        "workers.diarize.sortformer.engine:Sortformer",
        "workers.diarize.cascade.engine:ClusteringDiarizer",
        "workers.align.engine:Aligner",
        "workers.separate.demucs:Demucs",
    ],
)
def test_every_engine_that_can_be_on_a_gpu_can_save_its_memory(engine: str) -> None:
    module, _, name = engine.partition(":")
    assert {"device", "save_memory"} <= set(signature(getattr(import_module(module), name)).parameters)


def test_memory_is_given_back_when_there_are_no_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    released = []
    monkeypatch.setattr("workers.runtime.devices.release", lambda: released.append(True))
    engine = StandIn()
    scheduler = Scheduler(engine, lambda message: None, fill=None, step_timeout=None)
    scheduler._maintain()
    assert not released
    engine.save_memory = True
    scheduler._maintain()
    assert released


def test_a_torch_that_another_thread_imports_right_now_has_no_memory_to_tell_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    monkeypatch.delitem(sys.modules, "torch.cuda", raising=False)
    assert devices.memory() == {}
    monkeypatch.setitem(sys.modules, "torch.cuda", ModuleType("torch.cuda"))
    assert devices.memory() == {}
    devices.release()


async def test_the_workers_of_a_lane_take_its_devices_in_turn(settings: Callable[..., Settings]) -> None:
    from diarserve.observe.metrics import Metrics
    from diarserve.pool.lanes import make_lanes

    lane = {"workers": 3, "devices": ["cuda:0", "cuda:1"]}
    lanes = make_lanes(settings(whisper=lane, gpu_memory_optimization=True), Metrics())
    options = [slot.spec.options for slot in lanes.whisper._slots]
    assert [option["device"] for option in options] == ["cuda:0", "cuda:1", "cuda:0"]
    assert all(option["save_memory"] for option in options)
