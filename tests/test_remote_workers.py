"""Workers that call the server, without Ray: their supervisors are processes of this machine that share no files."""

from __future__ import annotations

import array
import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from shutil import which
from typing import Any

import psutil
import pytest
from msgspec import msgpack
from msgspec.structs import replace

from diarserve.cli import serve
from diarserve.core.settings import Cluster
from diarserve.observe.metrics import Metrics
from diarserve.pool.gateway import Gateway
from diarserve.pool.lane import Lane
from diarserve.pool.remote_worker import Launched, RemoteWorker
from tests.support.lanes import do, restarts
from tests.support.network import Machine, joined, missing
from tests.support.waiting import until
from workers.media.samples import load
from workers.messages import AudioRef, Failed, Transcribe, WorkerSpec, remote
from workers.messages.remote import Call, Place
from workers.remote import handshake, supervisor
from workers.remote.audio_cache import AudioCache, Fetch, WrongContent
from workers.runtime import channel

HERE = Place("here", 1, shares_files=False)
RUN = "import sys; from workers.remote.supervisor import Supervisor; Supervisor().run(sys.stdin.buffer.read())"


class Process:
    """A supervisor, as a Launched."""

    def __init__(self, call: Call, machine: Machine | None = None) -> None:
        command = [sys.executable, "-c", RUN]
        self.process = subprocess.Popen(machine.command(*command) if machine else command, stdin=subprocess.PIPE)
        assert self.process.stdin
        self.process.stdin.write(msgpack.encode(call))
        self.process.stdin.close()
        self.ended: asyncio.Future[int] = asyncio.ensure_future(asyncio.to_thread(self.process.wait))

    def kill(self) -> None:
        self.process.kill()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    how = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=diarserve"
    command = [*how.split(), "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command, check=True, capture_output=True)
    return files


@asynccontextmanager
async def gateway(folder: Path, host: str = "127.0.0.1", **settings: Any) -> AsyncIterator[Gateway]:
    made = Gateway(Cluster(share_files=False, cache_dir=folder / "cache", **settings), folder)
    await made.start(host)
    try:
        yield made
    finally:
        made.close()


@asynccontextmanager
async def lane(
    folder: Path, first_on: Machine | None = None, **settings: Any
) -> AsyncIterator[tuple[Lane, list[Process]]]:
    """A lane of one stand-in Whisper, and its supervisors in the order of their starts. first_on: where that one is."""
    started: list[Process] = []

    async def launch(call: Call) -> Launched:
        started.append(Process(call, None if started else first_on))
        return started[-1]

    async with gateway(folder, **settings) as called:
        spec = WorkerSpec("whisper", "tests.support.standins:Whisper", {"step_seconds": 0.01}, step_timeout=60.0)
        made = Lane([spec], Metrics(), start=partial(RemoteWorker.start, called, launch))
        made.start()
        try:
            await made.wait_ready()
            yield made, started
        finally:
            await made.close()


def recording(folder: Path, seconds: int = 2) -> Transcribe:
    """Samples in a folder of their own."""
    folder.mkdir()
    path = folder / "audio.f32"
    path.write_bytes(array.array("f", [0.5, -1.0] * 8000 * seconds).tobytes())
    return Transcribe(AudioRef(str(path), 16_000 * seconds))


async def test_a_worker_elsewhere_does_jobs_and_fetches_their_audio_once(tmp_path: Path) -> None:
    async with lane(tmp_path) as (remote, _):
        request = recording(tmp_path / "one")
        for _ in range(2):
            assert [word.word for word in (await do(remote, request)).result.words] == [" w0", " w1"]
        [cached] = (tmp_path / "cache" / "files").iterdir()
        assert cached.stat().st_size == 2 * request.audio.samples
        assert hashlib.sha256(cached.read_bytes()).hexdigest() == cached.name
        assert list(load(AudioRef(str(cached), 4, pcm=0))) == [0.5, -1.0, 0.5, -1.0]
        await until(lambda: not list((tmp_path / "cache" / "jobs").glob("*/whisper-[0-9]")))
        assert remote.info["live"] is False  # there is no file here that grows
        assert remote.info["node"]


@pytest.mark.parametrize("victim", ["supervisor", "worker", "connection", "stopped"])
async def test_a_worker_elsewhere_that_is_lost_is_replaced_and_its_job_done(tmp_path: Path, victim: str) -> None:
    async with lane(tmp_path) as (remote, started):
        first = started[0].process
        [worker] = psutil.Process(first.pid).children()
        done = asyncio.create_task(do(remote, recording(tmp_path / "one", 60)))
        await until(lambda: remote.state()["workers"][0]["jobs"] == 1)
        held = next(iter(remote._slots))._worker
        assert isinstance(held, RemoteWorker)
        if victim == "supervisor":
            first.kill()
        elif victim == "worker":
            worker.kill()
        elif victim == "connection":
            assert held._writer
            held._writer.transport.abort()
        else:  # as a machine that hangs: nothing is heard of it
            os.kill(first.pid, signal.SIGSTOP)
            held.kill()
        assert len((await done).result.words) == 60
        assert restarts(remote) == 1
        await until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


async def test_a_worker_survives_audio_that_is_refused_in_no_words_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, calls = Gateway._known, count()

    async def babbling(self: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        if next(calls) != 1:  # the second: the first for audio
            return await known(self, reader, writer)
        await handshake.receive(reader, remote.Greeting)
        writer.write(b"\xff" * 8)
        await writer.drain()
        raise EOFError

    monkeypatch.setattr(Gateway, "_known", babbling)
    async with lane(tmp_path) as (elsewhere, started):
        assert len((await do(elsewhere, recording(tmp_path / "one"))).result.words) == 2
        assert (restarts(elsewhere), len(started)) == (0, 1)
        assert next(calls) > 2


async def test_the_audio_of_a_job_goes_before_the_server_hears_of_its_end(cache: AudioCache) -> None:
    """The server may give out the job's name again."""
    data = b"samples"
    path = await cache.link(hashlib.sha256(data).hexdigest(), len(data), "whisper-1", bringing(data))
    there: list[bool] = []

    class Server:
        def write(self, _: bytes) -> None:
            there.append(path.exists())

        async def drain(self) -> None:
            pass

    from_worker = asyncio.StreamReader()
    from_worker.feed_data(
        channel.framed(b"no message") + channel.pack(Failed("whisper-1", "internal", "", retry=False))
    )
    from_worker.feed_eof()
    call: Any = None
    server: Any = Server()
    await supervisor._Relay(call, HERE, (asyncio.StreamReader(), server), cache)._up(from_worker)
    assert there == [True, False]


@pytest.mark.slow
async def test_a_worker_on_a_machine_that_is_cut_off_is_replaced(tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(why)
    with joined(1) as network:
        machine = network.machines[0]
        async with lane(tmp_path, machine, host=network.here) as (elsewhere, started):
            assert len((await do(elsewhere, recording(tmp_path / "before"))).result.words) == 2
            machine.cut()
            await until(lambda: restarts(elsewhere) == 1, 60)
            assert len((await do(elsewhere, recording(tmp_path / "after"))).result.words) == 2
            await until(lambda: started[0].process.poll() is not None, 60)  # it has noticed, too


needs_openssl = pytest.mark.skipif(not which("openssl"), reason="certificates are made by openssl")


@needs_openssl
async def test_frames_and_audio_are_encrypted_where_there_is_a_certificate(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    async with lane(tmp_path, certificate=certificate[0], key=certificate[1]) as (remote, _):
        assert len((await do(remote, recording(tmp_path / "one"))).result.words) == 2


@needs_openssl
async def test_a_server_with_another_certificate_is_not_trusted(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    async with gateway(tmp_path, certificate=certificate[0], key=certificate[1]) as called:
        with pytest.raises(handshake.Distrust, match="another certificate"):
            await handshake.call(replace(called.expect().call, certificate=b"other"), "channel", HERE)


async def test_who_does_not_know_the_token_is_not_trusted(tmp_path: Path) -> None:
    async with gateway(tmp_path) as called:
        expected = called.expect()
        with pytest.raises(handshake.Distrust, match="does not know this worker's token"):
            await handshake.call(replace(expected.call, token=b"guessed"), "channel", HERE)
        with pytest.raises(EOFError):  # nobody is waited for by that name
            await handshake.call(replace(expected.call, worker="other"), "channel", HERE)
        assert not expected.came.done()


async def test_a_worker_calls_once_and_not_after_it_was_given_up(tmp_path: Path) -> None:
    async with gateway(tmp_path) as called:
        once, given_up = called.expect(), called.expect()
        called.forget(given_up)
        with pytest.raises(EOFError):
            await handshake.call(given_up.call, "channel", HERE)
        _, writer = await handshake.call(once.call, "channel", HERE)
        assert (await once.came)[0] == HERE
        reader, again = await handshake.call(once.call, "channel", HERE)  # both know the token, and yet
        assert await reader.read() == b""
        for each in (writer, again, once.came.result()[1][1]):
            each.transport.abort()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, serve._loop])
def test_a_worker_fetches_what_is_offered_and_nothing_else(tmp_path: Path, loop: Any) -> None:
    """On the event loop that a server has, too: uvloop's where that is installed."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_fetch(tmp_path))


async def _fetch(tmp_path: Path) -> None:
    async with gateway(tmp_path) as called:
        parcel = await called.parcels.make(recording(tmp_path / "one").audio)
        call = called.expect().call

        async def fetched(sha256: str) -> bytes:
            reader, writer = await handshake.call(call, "audio", HERE)
            await handshake.send(writer, remote.Fetch(sha256))
            body = await reader.read()
            writer.transport.abort()
            return body

        assert hashlib.sha256(await fetched(parcel.sha256)).hexdigest() == parcel.sha256
        for other in ("0" * 64, "../../etc/passwd", str(tmp_path / "one" / "audio.f32")):
            assert await fetched(other) == b""


@pytest.fixture
def cache(tmp_path: Path) -> AudioCache:
    return AudioCache(tmp_path / "cache", limit=250)


def bringing(data: bytes, asked: list[str] | None = None) -> Fetch:
    async def fetch(sha256: str) -> AsyncGenerator[bytes, None]:
        if asked is not None:
            asked.append(sha256)
        yield data

    return fetch


async def test_what_comes_is_checked_by_length_and_hash(cache: AudioCache) -> None:
    sha256 = hashlib.sha256(b"x" * 100).hexdigest()
    for wrong in (b"x" * 99, b"x" * 101, b"y" * 100, b""):
        with pytest.raises(WrongContent):
            await cache.link(sha256, 100, "job", bringing(wrong))
    assert (await cache.link(sha256, 100, "job", bringing(b"x" * 100))).read_bytes() == b"x" * 100
    cache.close()


async def test_a_cache_holds_no_more_than_its_limit_and_takes_nothing_from_a_job(
    cache: AudioCache, tmp_path: Path
) -> None:
    contents, asked = [bytes([number]) * 100 for number in range(4)], list[str]()
    paths = []
    for number, content in enumerate(contents):
        sha256 = hashlib.sha256(content).hexdigest()
        path = await cache.link(sha256, 100, f"job-{number}", bringing(content, asked))
        os.utime(path, (number, number))  # the first is the oldest
        paths.append(path)
    kept = {file.name for file in (tmp_path / "cache" / "files").iterdir()}
    assert kept == {hashlib.sha256(content).hexdigest() for content in contents[2:]}
    assert [path.read_bytes() for path in paths] == contents
    again = [hashlib.sha256(content).hexdigest() for content in contents[2:]]
    await asyncio.gather(*(cache.link(sha256, 100, sha256[:8], bringing(b"", asked)) for sha256 in again))
    assert len(asked) == 4
    cache.close()
    assert not list((tmp_path / "cache" / "jobs").iterdir())
