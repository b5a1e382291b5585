"""The files of a decoder's jobs, which the server opens for it, and what the server believes of its answers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from diarserve.core.settings import MIB
from diarserve.observe.metrics import Metrics
from diarserve.pool import results
from diarserve.pool.lane import Lane
from tests.support.encode import encode
from tests.support.waiting import until
from workers.messages import AudioRef, Decode, Done, Request, Separate, Separation, Transcript, WorkerSpec
from workers.runtime.channel import ProtocolError

DECODER = WorkerSpec("decode", "decoder", memory_limit=2048 * MIB)
NOISE = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
WIDTH = 4


@asynccontextmanager
async def running(spec: WorkerSpec = DECODER) -> AsyncIterator[Lane]:
    lane = Lane([spec], Metrics(), width=WIDTH)
    lane.start()
    try:
        await lane.wait_ready()
        assert lane.ready, lane.halted
        yield lane
    finally:
        await lane.close()


def worker(lane: Lane) -> psutil.Process:
    return psutil.Process(lane.state()["workers"][0]["pid"])


def recording(folder: Path) -> Decode:
    """That is to be decoded: nothing of it is used in place."""
    folder.mkdir()
    return Decode(str(encode(folder / "upload", "wav", "pcm_s16le", NOISE, 44_100)), str(folder / "audio.f32"), 60.0)


async def decode(lane: Lane, request: Decode) -> Done[AudioRef]:
    return await lane.run(request, virtual_deadline=0.0)


def gone(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def open_in(folder: Path) -> list[str]:
    """The files below it that this process has open."""
    return [file.path for file in psutil.Process().open_files() if file.path.startswith(str(folder))]


async def test_descriptors_are_closed_when_jobs_end_or_are_cancelled(tmp_path: Path) -> None:
    async with running() as lane:
        await decode(lane, recording(tmp_path / "first"))
        before = worker(lane).num_fds()
        requests = [recording(tmp_path / str(number)) for number in range(6 * WIDTH)]
        Path(requests[0].source).write_bytes(b"no recording")
        worker(lane).suspend()  # the first of them are sent, and lie in its sockets
        jobs = [asyncio.create_task(decode(lane, request)) for request in requests]
        await until(lambda: lane.state()["workers"][0]["jobs"] >= WIDTH)
        for job in jobs[1::3]:
            job.cancel()
        worker(lane).resume()
        ends = await asyncio.gather(*jobs, return_exceptions=True)
        assert sum(isinstance(end, Done) for end in ends) == 4 * WIDTH - 1
        await until(lambda: worker(lane).num_fds() == before)
    assert open_in(tmp_path) == []


async def test_a_job_of_a_worker_that_died_gets_its_files_again(tmp_path: Path) -> None:
    async with running() as lane:
        before = psutil.Process().num_fds()
        dying = worker(lane)
        dying.suspend()
        jobs = [asyncio.create_task(decode(lane, recording(tmp_path / str(number)))) for number in range(3)]
        await until(lambda: lane.state()["workers"][0]["jobs"] == 3)
        os.kill(dying.pid, signal.SIGKILL)
        assert [done.result.duration for done in await asyncio.gather(*jobs)] == pytest.approx([2, 2, 2], abs=0.1)
        await until(lambda: psutil.Process().num_fds() == before)
    assert open_in(tmp_path) == []


async def test_a_worker_that_takes_no_files_is_replaced(tmp_path: Path) -> None:
    """Stopped, while clients come and go."""
    async with running() as lane:
        stopped = worker(lane)
        stopped.suspend()
        request = recording(tmp_path / "one")
        for _ in range(2_000):
            job = asyncio.create_task(decode(lane, request))
            await asyncio.sleep(0)
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
            if gone(stopped):
                break
        await until(lambda: lane.state()["workers"][0]["restarts"] == 1)
        assert (await decode(lane, request)).result.duration == pytest.approx(2, abs=0.1)


async def test_files_that_cannot_be_opened_are_the_jobs_error(tmp_path: Path) -> None:
    async with running() as lane:
        with pytest.raises(FileNotFoundError):
            await decode(lane, Decode(str(tmp_path / "none"), str(tmp_path / "audio.f32"), 60.0))
        (tmp_path / "upload").touch()
        with pytest.raises(IsADirectoryError):
            await decode(lane, Decode(str(tmp_path / "upload"), str(tmp_path), 60.0))
        assert (await decode(lane, recording(tmp_path / "next"))).result.duration == pytest.approx(2, abs=0.1)
        assert lane.state()["workers"][0]["restarts"] == 0
    assert open_in(tmp_path) == []


async def test_a_worker_that_names_a_file_of_others_is_replaced(tmp_path: Path) -> None:
    """It is tried on each of the attempts; nothing of the file reaches another worker."""
    (tmp_path / "secret").write_bytes(bytes(1_000))
    spec = WorkerSpec("decode", "tests.support.standins:Liar", {"names": str(tmp_path / "secret")})
    async with running(spec) as lane:
        with pytest.raises(Exception, match="crashed on this recording"):
            await decode(lane, recording(tmp_path / "task"))


@pytest.fixture
def audio(tmp_path: Path) -> Callable[[str, int], str]:
    def make(name: str, size: int) -> str:
        (tmp_path / name).write_bytes(bytes(size))
        return str(tmp_path / name)

    return make


def test_samples_must_lie_in_the_jobs_files(audio: Callable[[str, int], str]) -> None:
    source, target, other = audio("upload", 144), audio("audio.f32", 400), audio("other", 4_000)
    decoding = Decode(source, target, 60.0)
    separating = Separate(AudioRef(other, 100), target)
    right: list[tuple[Request, object]] = [
        (decoding, AudioRef(target, 100)),
        (decoding, AudioRef(source, 50, 44)),
        (decoding, AudioRef(target, 0)),
        (separating, Separation(AudioRef(target, 100), "model")),
        (separating, Separation(AudioRef(other, 100), None)),  # as it was
    ]
    for request, result in right:
        results.check(request, result)
    wrong: list[tuple[Request, object]] = [
        (decoding, AudioRef(other, 100)),
        (decoding, AudioRef("/proc/self/mem", 0)),
        (decoding, AudioRef(target, 101)),
        (decoding, AudioRef(target, -1)),
        (decoding, AudioRef(source, 51, 44)),
        (decoding, AudioRef(source, 10, -4)),
        (decoding, Transcript((), "en", "model")),
        (separating, Separation(AudioRef(other, 1_000), None)),
        (separating, Separation(AudioRef(source, 10), "model")),
        (separating, AudioRef(target, 100)),
    ]
    for request, result in wrong:
        with pytest.raises(ProtocolError):
            results.check(request, result)
