"""Jobs whose audio keeps arriving: real worker processes, stand-in engines."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from diarserve.core.errors import ModelFailed
from diarserve.observe.metrics import Metrics
from diarserve.pool.lane import Lane
from diarserve.pool.live_job import LiveJob
from tests.support.lanes import do, job, pid, restarts
from tests.support.waiting import until
from workers.messages import SAMPLE_RATE, AudioRef, Listen, WorkerSpec
from workers.messages.live import LiveOutput, LiveWords


@dataclass
class Call:
    """A live job, and what was heard of it."""

    path: Path
    lane: Lane
    seconds: int = 0
    words: list[str] = field(default_factory=list)
    outputs: list[LiveWords] = field(default_factory=list)
    job: LiveJob = field(init=False)

    def __post_init__(self) -> None:
        self.path.touch()
        self.job = self.lane.open(Listen(AudioRef(str(self.path), 0, pcm=0)), task="call", on_output=self._hear)

    def _hear(self, output: LiveOutput) -> None:
        assert isinstance(output, LiveWords)
        self.outputs.append(output)
        self.words += [word.word.strip() for word in output.final]

    def say(self, *values: int, flush: bool = False, end: bool = False) -> None:
        """A second of each value."""
        with self.path.open("ab") as file:
            for value in values:
                file.write(struct.pack("<h", value) * SAMPLE_RATE)
        self.seconds += len(values)
        self.job.append(self.seconds * SAMPLE_RATE, flush=flush, end=end)

    @property
    def flushed(self) -> bool:
        return any(output.flushed for output in self.outputs)


MakeCall = Callable[..., Call]


@pytest.fixture
async def lane() -> AsyncIterator[Lane]:
    lane = Lane(
        [WorkerSpec("whisper", "tests.support.standins:Whisper", step_timeout=60.0)], Metrics(), width=1, attempts=3
    )
    lane.start()
    await lane.wait_ready()
    yield lane
    await lane.close()


@pytest.fixture
async def make_call(lane: Lane, tmp_path: Path) -> AsyncIterator[MakeCall]:
    calls: list[Call] = []

    def make(name: str = "call", order: str = "") -> Call:
        folder = tmp_path / name
        folder.mkdir()
        if order:
            (folder / "order").write_text(order)
        calls.append(Call(folder / "audio.pcm", lane))
        return calls[-1]

    yield make
    for call in calls:
        call.job.close()


async def test_words_are_heard_while_audio_comes_and_a_flush_makes_all_of_them_final(make_call: MakeCall) -> None:
    call = make_call()
    call.say(1, 2)
    await until(lambda: call.words == ["w1", "w2"])
    call.say(3, flush=True)
    await until(lambda: call.flushed)
    assert call.words == ["w1", "w2", "w3"]
    call.say(4, end=True)
    await call.job.result()
    assert call.words == ["w1", "w2", "w3", "w4"]


async def test_workers_that_die_in_the_midst_of_a_session_lose_no_word_and_say_none_twice(
    lane: Lane, make_call: MakeCall
) -> None:
    deaths = (0, 2, 3, 5, 5, 8, 9)  # more than a job of a file has attempts
    call = make_call(order="kill-at " + " ".join(map(str, deaths)))
    for value in range(1, 10):
        call.say(value)
    call.say(10, end=True)
    await call.job.result()
    assert call.words == [f"w{value}" for value in range(1, 11)]
    assert restarts(lane) == len(deaths)


async def test_a_session_that_kills_each_worker_at_the_same_place_is_given_up(make_call: MakeCall) -> None:
    call = make_call(order="kill-at 1 1 1 1")
    call.say(1, 2, end=True)
    with pytest.raises(ModelFailed):
        await call.job.result()
    assert call.words == ["w1"]


async def test_sessions_leave_the_places_of_files_free_and_files_go_on_beside_them(
    lane: Lane, make_call: MakeCall, tmp_path: Path
) -> None:
    calls = [make_call(f"call {number}") for number in range(5)]
    for call in calls:
        call.say(1)
    await do(lane, job(tmp_path / "file", 2))
    for call in calls:
        call.say(2, end=True)
        await call.job.result()
        assert call.words == ["w1", "w2"]


async def test_a_worker_that_dies_while_sessions_wait_goes_on_with_all_of_them(lane: Lane, make_call: MakeCall) -> None:
    calls = [make_call(f"call {number}") for number in range(3)]
    for call in calls:
        call.say(1)
    await until(lambda: all(call.words == ["w1"] for call in calls))
    psutil.Process(pid(lane)).kill()
    for call in calls:
        call.say(2, end=True)
        await call.job.result()
        assert call.words == ["w1", "w2"]


async def test_a_session_that_is_closed_leaves_nothing_in_its_worker(lane: Lane, make_call: MakeCall) -> None:
    call = make_call()
    call.say(1)
    await until(lambda: call.words == ["w1"])
    call.job.close()
    assert [worker["jobs"] for worker in lane.state()["workers"]] == [0]
    call.job.close()


async def test_a_worker_whose_sessions_wait_for_audio_does_not_count_as_hung(
    monkeypatch: pytest.MonkeyPatch, lane: Lane, make_call: MakeCall, tmp_path: Path
) -> None:
    """The clock of silence runs out at once where anything is asked of a worker."""
    call = make_call()
    call.say(1)
    await until(lambda: call.words == ["w1"])
    [slot] = lane._slots
    await until(lambda: all(held.awaits_audio for held in slot.jobs.values()))
    slot._last_message = -1e9
    slot._kill_if_silent()
    call.say(2)
    slot._kill_if_silent()  # it was asked this moment
    await until(lambda: call.words == ["w1", "w2"])
    assert restarts(lane) == 0


async def test_one_that_only_waits_is_not_blamed_for_the_death_of_its_worker(lane: Lane, make_call: MakeCall) -> None:
    lane._attempts = 1
    call = make_call()
    call.say(1)
    await until(lambda: all(job.awaits_audio for slot in lane._slots for job in slot.jobs.values()))
    psutil.Process(pid(lane)).kill()
    await until(lambda: restarts(lane) == 1)
    call.say(2, end=True)
    await call.job.result()
    assert call.words == ["w1", "w2"]
