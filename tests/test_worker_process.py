"""A worker's process: from what it is started, what it inherits, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import psutil
import pytest

from diarserve.observe.metrics import Metrics
from diarserve.pool.lane import Lane
from diarserve.pool.worker_process import WorkerProcess
from tests.support.app import Start, service
from tests.support.paths import REPOSITORY
from tests.support.waiting import until
from workers.messages import Ready, WorkerSpec

SPEC = WorkerSpec("whisper", "tests.support.standins:Whisper")

ENGINE = """
    import subprocess
    from workers.engine import Engine

    class Zipped(Engine):
        def __init__(self):
            self.child = subprocess.Popen(["sleep", "1000"])

        def describe(self):
            return {"model": "zipped", "device": "cpu", "child": self.child.pid}
"""
PROGRAM = """
    import asyncio, os, signal, sys
    from diarserve.observe.metrics import Metrics
    from diarserve.pool.lane import Lane
    from workers.messages import WorkerSpec

    async def run():
        lane = Lane([WorkerSpec("whisper", "zipped_engine:Zipped")], Metrics())
        lane.start()
        await lane.wait_ready()
        assert lane.ready, lane.halted
        [worker] = lane.state()["workers"]
        os.kill(worker["pid"], signal.SIGKILL)
        while not lane.state()["workers"][0]["restarts"]:
            await asyncio.sleep(0.01)
        await lane.wait_ready()
        await lane.close()

    if sys.argv[1] == "uvloop":
        import uvloop
        uvloop.run(run(), debug=True)
    else:
        asyncio.run(run(), debug=True)
    print("done")
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_program_in_a_zip_file_without_a_guard_starts_workers_and_leaves_no_warning(
    tmp_path: Path, loop: str
) -> None:
    pytest.importorskip(loop)
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", textwrap.dedent(PROGRAM))
        archive.writestr("zipped_engine.py", textwrap.dedent(ENGINE))
    done = subprocess.run(
        [sys.executable, "-W", "always", str(tmp_path / "app.pyz"), loop],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    for sign in ("Warning", "Traceback", "Unknown child", "is closed", "never awaited"):
        assert sign not in done.stderr, done.stderr


@pytest.mark.parametrize("old_kernel", [False, True])
@pytest.mark.parametrize("killed", [False, True])
async def test_what_an_engine_started_ends_with_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old_kernel: bool, killed: bool
) -> None:
    (tmp_path / "zipped_engine.py").write_text(textwrap.dedent(ENGINE))
    monkeypatch.syspath_prepend(tmp_path)
    if old_kernel:
        send = signal.pidfd_send_signal

        def refuse(pidfd: int, number: int, info: None = None, flags: int = 0) -> None:
            if flags:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            send(pidfd, number)

        monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    worker = await WorkerProcess.start(WorkerSpec("whisper", "zipped_engine:Zipped"))
    ready = await worker.receive()
    assert isinstance(ready, Ready)
    child = psutil.Process(ready.model["child"])
    assert os.getpgid(child.pid) == worker.pid
    if killed:
        os.kill(worker.pid, signal.SIGKILL)
        assert await worker.wait() == -signal.SIGKILL
    assert await worker.close() == -signal.SIGKILL
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


async def test_a_worker_inherits_its_ends_of_two_sockets_and_streams_for_its_log_alone(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        worker = await WorkerProcess.start(SPEC)
        assert isinstance(await worker.receive(), Ready)
        opened = {int(fd.name): os.readlink(fd) for fd in Path(f"/proc/{worker.pid}/fd").iterdir()}
    assert opened.pop(0) == "/dev/null"
    assert opened.pop(1) == opened.pop(2) != os.readlink("/proc/self/fd/2")  # the server takes in what it prints
    assert sorted(target.partition(":")[0] == "socket" for target in opened.values()) == [False, True, True]
    assert os.readlink("/proc/self/fd/2") in opened.values()  # for its log
    await worker.close()


async def test_the_decoder_can_write_no_more_than_the_longest_recording_takes(start: Start) -> None:
    client = await start(limits={"max_audio_seconds": 60})
    lanes = service(client).lanes
    decode, whisper = (psutil.Process(lane.state()["workers"][0]["pid"]) for lane in (lanes.decode, lanes.whisper))
    limit = 60 * 16_000 * 4 * 8 + 64 * 2**20  # of eight channels, each on its own
    assert decode.rlimit(psutil.RLIMIT_FSIZE) == (limit, limit)
    assert whisper.rlimit(psutil.RLIMIT_FSIZE) == psutil.Process().rlimit(psutil.RLIMIT_FSIZE)


@pytest.mark.parametrize(
    "what", ["asyncio.subprocess.create_subprocess_exec", "diarserve.pool.worker_process.pidfd_open"]
)
async def test_a_start_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    await (await WorkerProcess.start(SPEC)).close()  # what is opened once for all
    me = psutil.Process()
    before = me.num_fds(), len(me.children(recursive=True))

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(what, fail)
        with pytest.raises(OSError, match="Too many open files"):
            await WorkerProcess.start(SPEC)
    async with asyncio.timeout(30):
        while (me.num_fds(), len(me.children(recursive=True))) != before:
            await asyncio.sleep(0.01)


async def test_descriptors_that_run_out_at_any_point_leave_nothing() -> None:
    await (await WorkerProcess.start(SPEC)).close()
    me = psutil.Process()
    before, children = me.num_fds(), len(me.children(recursive=True))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    failed, filling = 0, []
    try:
        for room in range(8):
            with contextlib.suppress(OSError):
                while True:
                    filling.append(os.open(os.devnull, os.O_RDONLY))
            for _ in range(room):
                os.close(filling.pop())
            try:
                worker = await WorkerProcess.start(SPEC)
            except OSError:
                failed += 1
            else:
                await worker.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in filling:
            os.close(descriptor)
    assert failed
    async with asyncio.timeout(30):
        while (me.num_fds(), len(me.children(recursive=True))) != (before, children):
            await asyncio.sleep(0.01)


async def test_a_worker_that_cannot_be_killed_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that waits for a driver: it is stopped, and no signal reaches it."""
    lane = Lane([SPEC], Metrics())
    lane.start()
    await lane.wait_ready()
    first = psutil.Process(lane.state()["workers"][0]["pid"])
    try:
        with monkeypatch.context() as patch:
            patch.setattr(signal, "pidfd_send_signal", lambda *arguments: None)
            first.suspend()
            await until(lambda: first.status() == psutil.STATUS_STOPPED)  # one of its threads may still run until then
            next(iter(lane._slots))._worker.kill()  # type: ignore[union-attr] # as when it is silent for too long
            await until(lambda: lane.state()["workers"][0]["restarts"] == 1)
            await lane.wait_ready()
            assert lane.ready
            assert first.is_running()
    finally:
        first.kill()
        await lane.close()
    first.wait(10)
