"""Lanes whose workers come and go: real worker processes, stand-in engines, short patience."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from diarserve.cli.main import main as cli
from diarserve.core.settings import MIB, Settings
from diarserve.observe.metrics import Metrics
from diarserve.pool import memory, scaler, slot
from diarserve.pool.lane import Lane
from diarserve.pool.scaling import Bounds, Policy
from tests.support.app import Recording, Start, document, error, form, metric, reached, submit
from tests.support.lanes import MakeLane, Options, do, job, restarts, specs
from tests.support.serving import serving
from tests.support.waiting import until
from workers.messages import SAMPLE_RATE, AudioRef, Listen
from workers.messages.live import LiveOutput, LiveWords

PROMPT = Policy(grow_after=0.1, shrink_after=0.3, retry_after=60.0)
NEVER = Policy(grow_after=3600.0, shrink_after=3600.0)
SCALE = "/api/v1/parallel/lanes/whisper/scale"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaler, "_PERIOD", 0.02)


@pytest.fixture
async def make_lane() -> AsyncIterator[MakeLane]:
    opened: list[Lane] = []

    def make(
        least: int,
        most: int,
        workers: int = 1,
        policy: Policy = PROMPT,
        options: Options = (),
        **settings: Any,
    ) -> Lane:
        bounds = Bounds(least, most)
        lane = Lane(specs(options), Metrics(), workers=workers, bounds=bounds, policy=policy, **settings)
        lane.start()
        opened.append(lane)
        return lane

    yield make
    for lane in opened:
        await lane.close()


def up(lane: Lane) -> list[int]:
    """The processes of the workers that are up."""
    return [worker["pid"] for worker in lane.state()["workers"] if worker["pid"]]


def size(lane: Lane) -> int:
    return len(lane.state()["workers"])


def scalings(lane: Lane, **labels: str) -> float:
    families = text_string_to_metric_families(lane.scaler._metrics.render()[0].decode())
    samples = [sample for family in families for sample in family.samples]
    return sum(s.value for s in samples if s.name == "diarserve_scalings_total" and labels.items() <= s.labels.items())


async def test_a_burst_grows_a_lane_and_idleness_shrinks_it_and_every_job_is_done(
    make_lane: MakeLane, tmp_path: Path
) -> None:
    (gate := tmp_path / "gate").touch()
    lane = make_lane(1, 3, width=2, options={"gate": str(gate)})
    jobs = [asyncio.create_task(do(lane, job(tmp_path / str(number)))) for number in range(30)]
    await until(lambda: len(up(lane)) == 3)
    gate.unlink()
    assert [len((await done).result.words) for done in jobs] == [2] * 30
    await until(lambda: size(lane) == 1)
    assert restarts(lane) == 0
    assert scalings(lane, direction="up", reason="waiting") == 2
    assert scalings(lane, direction="down", reason="idle") >= 1


async def test_an_idle_lane_goes_to_zero_and_comes_back_with_the_next_job(make_lane: MakeLane, tmp_path: Path) -> None:
    lane = make_lane(0, 1)
    await lane.wait_ready()
    [process] = [psutil.Process(pid) for pid in up(lane)]
    await until(lambda: size(lane) == 0)
    await until(lambda: not process.is_running())
    assert (lane.asleep, lane.ready, lane.halted) == (True, False, None)
    assert lane.info["model"] == "stand-in"
    await lane.wait_ready()
    assert len((await do(lane, job(tmp_path))).result.words) == 2
    assert lane.ready


async def test_a_lane_may_begin_without_a_worker(make_lane: MakeLane, tmp_path: Path) -> None:
    lane = make_lane(0, 2, workers=0)
    assert lane.asleep
    done = await asyncio.gather(*(do(lane, job(tmp_path / str(number))) for number in range(3)))
    assert [len(each.result.words) for each in done] == [2, 2, 2]


async def test_workers_that_are_to_leave_finish_what_they_hold(make_lane: MakeLane, tmp_path: Path) -> None:
    (gate := tmp_path / "gate").touch()
    lane = make_lane(3, 3, workers=3, policy=NEVER, width=2, options={"gate": str(gate)})
    await until(lambda: len(up(lane)) == 3)
    jobs = [asyncio.create_task(do(lane, job(tmp_path / str(number)))) for number in range(8)]
    await until(lambda: [worker["jobs"] for worker in lane.state()["workers"]] == [2, 2, 2])
    lane.scaler.ask(1)
    assert [worker["leaving"] for worker in lane.state()["workers"]] == [False, True, True]
    gate.unlink()
    assert [len((await done).result.words) for done in jobs] == [2] * 8
    await until(lambda: size(lane) == 1)
    assert restarts(lane) == 0


async def test_the_jobs_of_a_worker_that_is_killed_while_it_leaves_are_done_by_another(
    make_lane: MakeLane, tmp_path: Path
) -> None:
    (gate := tmp_path / "gate").touch()
    lane = make_lane(2, 2, workers=2, policy=NEVER, width=1, options={"gate": str(gate)})
    await until(lambda: len(up(lane)) == 2)
    jobs = [asyncio.create_task(do(lane, job(tmp_path / str(number)))) for number in range(2)]
    await until(lambda: [worker["jobs"] for worker in lane.state()["workers"]] == [1, 1])
    lane.scaler.ask(1)
    [leaving] = [worker["pid"] for worker in lane.state()["workers"] if worker["leaving"]]
    os.kill(leaving, signal.SIGKILL)
    await until(lambda: size(lane) == 1)
    gate.unlink()
    assert [len((await done).result.words) for done in jobs] == [2, 2]
    assert restarts(lane) == 0


async def test_a_worker_that_was_to_leave_stays_where_jobs_come(make_lane: MakeLane, tmp_path: Path) -> None:
    (gate := tmp_path / "gate").touch()
    lane = make_lane(1, 1, policy=NEVER, options={"gate": str(gate)})
    held = asyncio.create_task(do(lane, job(tmp_path / "held")))
    await until(lambda: up(lane) and lane.state()["workers"][0]["jobs"] == 1)
    [pid] = up(lane)
    lane.scaler.ask(0)
    assert lane.state()["workers"][0]["leaving"]
    next = asyncio.create_task(do(lane, job(tmp_path / "next")))
    await until(lambda: not lane.state()["workers"][0]["leaving"])
    gate.unlink()
    assert [len((await done).result.words) for done in (held, next)] == [2, 2]
    assert up(lane) == [pid]


class Call:
    """A live job that says numbers, and the words that were heard of it."""

    def __init__(self, lane: Lane, file: Path) -> None:
        file.touch()
        self.file, self.words = file, list[str]()
        self.job = lane.open(Listen(AudioRef(str(file), 0, pcm=0)), task="call", on_output=self._hear)

    def _hear(self, output: LiveOutput) -> None:
        assert isinstance(output, LiveWords)
        self.words += [word.word.strip() for word in output.final]

    def say(self, value: int, *, end: bool = False) -> None:
        with self.file.open("ab") as audio:
            audio.write(struct.pack("<h", value) * SAMPLE_RATE)
        self.job.append(value * SAMPLE_RATE, end=end)


async def test_a_live_job_goes_on_in_another_worker_when_its_own_leaves(make_lane: MakeLane, tmp_path: Path) -> None:
    lane = make_lane(2, 2, workers=2, policy=NEVER)
    await until(lambda: len(up(lane)) == 2)
    calls = [Call(lane, tmp_path / f"{number}.pcm") for number in range(2)]
    assert [worker["jobs"] for worker in lane.state()["workers"]] == [1, 1]
    for call in calls:
        call.say(1)
    await until(lambda: [call.words for call in calls] == [["w1"]] * 2)
    lane.scaler.ask(1)
    assert [worker["jobs"] for worker in lane.state()["workers"]] == [2]
    for call in calls:
        call.say(2)
        call.say(3, end=True)
        await call.job.result()
        call.job.close()
    assert [call.words for call in calls] == [["w1", "w2", "w3"]] * 2


async def test_a_worker_that_comes_up_takes_over_jobs_that_another_has_not_begun(
    make_lane: MakeLane, tmp_path: Path
) -> None:
    (gate := tmp_path / "gate").touch()
    lane = make_lane(1, 2, width=8, options={"gate": str(gate)}, policy=Policy(0.1, 3600.0))
    jobs = [asyncio.create_task(do(lane, job(tmp_path / str(number)))) for number in range(6)]
    await until(lambda: [worker["jobs"] for worker in lane.state()["workers"]] == [3, 3])
    gate.unlink()
    assert [len((await done).result.words) for done in jobs] == [2] * 6


async def test_a_worker_more_that_cannot_start_is_given_up_and_the_lane_serves(
    make_lane: MakeLane, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot, "_LONGEST_PAUSE", 0.01)
    (gate := tmp_path / "gate").touch()
    lane = make_lane(1, 2, width=1, options=[{"gate": str(gate)}, {"boot": "fail"}])
    await lane.wait_ready()
    jobs = [asyncio.create_task(do(lane, job(tmp_path / str(number)))) for number in range(3)]
    await until(lambda: scalings(lane, direction="up") == 1)
    await until(lambda: size(lane) == 1, pause=0.05)
    gate.unlink()
    assert [len((await done).result.words) for done in jobs] == [2] * 3
    assert (lane.halted, scalings(lane, direction="up")) == (None, 1)
    assert "no such model" in caplog.text


async def test_a_lane_does_not_grow_into_memory_that_is_not_there(
    make_lane: MakeLane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (gate := tmp_path / "gate").touch()
    lane = make_lane(1, 4, width=1, options={"gate": str(gate)}, free=lambda device: 1)
    jobs = [asyncio.create_task(do(lane, job(tmp_path / str(number)))) for number in range(3)]
    await until(lambda: scalings(lane, direction="none", reason="memory") == 1)
    gate.unlink()
    await asyncio.gather(*jobs)
    assert (size(lane), scalings(lane, direction="up")) == (1, 0)
    assert "stays at 1 workers: " in caplog.text


async def test_what_a_worker_takes_and_what_is_left_is_known(make_lane: MakeLane) -> None:
    lane = make_lane(1, 1)
    await lane.wait_ready()
    taken = memory.taken(lane.state()["workers"])
    assert taken is not None
    assert 10 * MIB < taken < 1000 * MIB
    free = memory.free("cpu", ())
    assert free is not None
    assert free > 0
    assert memory.free("cuda:0", lane.state()["workers"]) is None


async def test_a_sleeping_server_is_ready_and_a_recording_wakes_it(start: Start, recording: Recording) -> None:
    idle = {"min_workers": 0, "shrink_after": 0.2}
    client = await start(decode=idle, whisper=idle, embedded=idle)

    async def asleep() -> bool:
        ready = await client.get("/readyz")
        assert ready.status == 200
        return set((await ready.json())["lanes"].values()) == {"asleep"}

    await until(asleep)
    assert await metric(client, "diarserve_workers_up") == 0
    features = await (await client.get("/api/v1/parallel/features")).json()
    assert features["models"]["whisper"]["model"] == "stand-in"
    assert (await document(client, form(recording())))["text"] == "w0 w1"
    await until(asleep)
    await reached(client, await submit(client, recording()), "completed")


async def test_operators_say_how_many_workers_there_are(start: Start, recording: Recording) -> None:
    client = await start(whisper={"max_workers": 3, "grow_after": 3600, "shrink_after": 3600})

    async def asked(workers: str) -> tuple[int, int, int]:
        answer = await client.post(SCALE, params={"workers": workers})
        assert answer.status == 200, await answer.text()
        scaling = (await answer.json())["scaling"]
        return scaling["min_workers"], scaling["max_workers"], scaling["wanted"]

    assert await asked("2") == (2, 2, 2)
    assert await asked("0") == (0, 1, 0)
    assert (await client.get("/readyz")).status == 200
    assert (await document(client, form(recording())))["text"] == "w0 w1"
    assert await asked("2-4") == (2, 4, 2)
    assert await asked("auto") == (1, 3, 2)
    assert await metric(client, "diarserve_scalings_total", lane="whisper", reason="operator") == 3
    assert await metric(client, "diarserve_workers_wanted", lane="whisper") == 2


async def test_what_is_no_number_of_workers_is_refused(start: Start) -> None:
    client = await start()
    for workers in ("", "-1", "4-2", "0-0", "257", "1-2-3", "many", "٣"):
        assert await error(await client.post(SCALE, params={"workers": workers})) == (400, "invalid_request"), workers
    unknown = await client.post("/api/v1/parallel/lanes/nobody/scale?workers=1")
    assert await error(unknown) == (404, "not_found")


def test_the_command_scales_a_lane_of_a_running_server(
    settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(settings()) as url:
        assert cli(["scale", "whisper", "1-2", "--server", url]) == 0
        assert capsys.readouterr().out == "whisper: 1 wanted, 1 up, between 1 and 2 workers\n"
        assert cli(["scale", "whisper", "2", "--server", url, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["scaling"]["wanted"] == 2
        assert cli(["scale", "whisper", "many", "--server", url]) == 1
        assert "workers must be a number" in capsys.readouterr().err
        assert cli(["scale", "nobody", "1", "--server", url]) == 1
        assert "There is no lane 'nobody'" in capsys.readouterr().err
