"""What a worker that reads hostile files cannot do any more: tried in real processes, and read from /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from diarserve.core.settings import MIB
from diarserve.pool.worker_process import WorkerProcess
from tests.support.encode import encode
from tests.support.prisoner import attempts
from tests.support.waiting import until
from workers.messages import AudioRef, Decode, Done, Failed, Ready, Request, Submit, WorkerSpec
from workers.runtime import landlock, seccomp

MAY = {"read-its-source", "write-its-target", "import-a-module", "start-a-thread", "signal-itself"}
NOISE = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
NEEDS_LANDLOCK = {
    "read-a-neighbour-of-passwd",
    "read-the-environment-of-the-server",
    "open-its-source",
    "open-its-source-again",
    "open-its-target",
    "remove-its-target",
    "make-a-file-beside-its-own",
    "read-another-jobs-source",
    "write-another-jobs-source",
    "write-another-jobs-target",
    "truncate-another-jobs-target",
    "swap-another-jobs-files",
    "link-to-another-jobs-file",
    "list-its-folder",
    "list-the-root",
    "read-a-strangers-file",
    "write-a-strangers-file",
    "truncate-a-strangers-file",
    "write-to-tmp",
    "write-to-its-environment",
    "make-a-folder",
    "link-a-strangers-file",
}

has_landlock = pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")


async def run(
    spec: WorkerSpec, request: Request, look: Callable[[int], Any] = lambda pid: None
) -> tuple[Any, Ready, Any]:
    """The worker's answer, what it said when it was ready, and what `look` saw of its process after the job."""
    worker = await WorkerProcess.start(spec)
    try:
        ready = await worker.receive()
        assert isinstance(ready, Ready), ready
        worker.send(Submit("1", "task", request, 0.0))
        while not isinstance(message := await worker.receive(), Done | Failed):
            pass
        seen = look(worker.pid)
    finally:
        await worker.close()
    return message, ready, seen


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def of_every_thread(pid: int) -> list[dict[str, str]]:
    return [
        {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
        for text in ((task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir())
    ]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool" / "task"
    folder.mkdir(parents=True)
    (tmp_path / "stranger").write_text("a stranger's")
    return folder


def decoder() -> WorkerSpec:
    return WorkerSpec("decode", "decoder", memory_limit=2048 * MIB)


async def test_a_jailed_engine_does_not_get_out(spool: Path, tmp_path: Path) -> None:
    request = Decode(str(spool / "upload"), str(spool / "audio.f32"), 60.0)
    (spool / "upload").write_bytes(b"its recording")
    other = spool.with_name("other")
    other.mkdir()
    for name in ("upload", "audio.f32"):
        (other / name).write_bytes(b"another's")
    spec = WorkerSpec("decode", "tests.support.prisoner:Prisoner", {"server": os.getpid()})
    done, ready, _ = await run(spec, request)
    assert isinstance(done, Done), done
    ends = dict(word.word.split("=") for word in done.result.words)
    assert list(ends) == list(attempts(request, 0))
    expected = {
        name for name in ends if name in MAY or (name in NEEDS_LANDLOCK and not ready.model["jail"]["landlock"])
    }
    assert {name for name, end in ends.items() if end == "done"} <= expected, ends
    assert {name: ends[name] for name in MAY} == dict.fromkeys(MAY, "done")
    assert (tmp_path / "stranger").read_text() == "a stranger's"
    assert (spool / "upload").read_bytes() == b"its recording"
    assert (spool / "audio.f32").read_bytes() == b"samp"
    assert {file.name: file.read_bytes() for file in other.iterdir()} == dict.fromkeys(
        ("upload", "audio.f32"), b"another's"
    )
    # EBADF and EINVAL: a descriptor that is open only for reading, or only for writing. EXDEV: Landlock of a link.
    refusals = {"EPERM", "EACCES", "ENOSYS", "EBADF", "EINVAL", "EXDEV"}
    assert {end for name, end in ends.items() if name not in expected} <= refusals, ends


async def test_the_decoder_is_jailed_and_still_decodes(spool: Path, tmp_path: Path) -> None:
    source = encode(spool / "upload", "mp3", "libmp3lame", NOISE, 44_100)
    request = Decode(str(source), str(spool / "audio.f32"), 60.0)
    done, ready, threads = await run(decoder(), request, of_every_thread)
    assert isinstance(done, Done), done
    assert done.result.duration == pytest.approx(2, abs=0.1)
    assert len(threads) >= 2  # the reader's too
    for thread in threads:
        assert thread["NoNewPrivs"] == "1"
        assert thread["Seccomp"] == "2"
        assert {thread[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    jail = ready.model["jail"]
    assert jail == {"no_new_privs": True, "capabilities": "none", "landlock": landlock.abi() or False, "seccomp": True}


FORMATS = (
    ("wav", "pcm_s24le", 48_000),
    ("wav", "pcm_f32le", 16_000),
    ("flac", "flac", 44_100),
    ("ogg", "libopus", 48_000),
    ("ipod", "aac", 44_100),
    ("mp4", "aac", 48_000),
    ("matroska", "libmp3lame", 32_000),
    ("adts", "aac", 44_100),
    ("aiff", "pcm_s16be", 44_100),
)


async def test_every_format_is_decoded_in_the_jail(spool: Path, tmp_path: Path) -> None:
    worker = await WorkerProcess.start(decoder())
    try:
        assert isinstance(await worker.receive(), Ready)
        for form, codec, rate in FORMATS:
            source = encode(spool / "upload", form, codec, NOISE, rate)
            worker.send(Submit(codec, "task", Decode(str(source), str(spool / "audio.f32"), 60.0), 0.0))
            while not isinstance(message := await worker.receive(), Done | Failed):
                pass
            assert isinstance(message, Done), (form, codec, message)
            assert isinstance(message.result, AudioRef)
            assert message.result.duration == pytest.approx(2, abs=0.2)
    finally:
        await worker.close()


async def test_what_a_kernel_lacks_is_said(spool: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A kernel without seccomp filters and Landlock, as far as the worker can tell."""
    fake = tmp_path / "modules" / "sitecustomize.py"
    fake.parent.mkdir()
    fake.write_text(
        "from workers.runtime import landlock, seccomp\n"
        "landlock.abi = lambda: 0\n"
        "def none(): raise OSError(38, 'no such call')\n"
        "seccomp.apply = none\n"
    )
    source = encode(spool / "upload", "flac", "flac", NOISE)
    spec = replace(decoder(), environment={"PYTHONPATH": str(fake.parent)})
    done, ready, seen = await run(spec, Decode(str(source), str(spool / "audio.f32"), 60.0), status)
    assert isinstance(done, Done), done
    assert ready.model["jail"]["seccomp"] is False
    assert ready.model["jail"]["landlock"] is False
    assert (seen["NoNewPrivs"], seen["CapEff"]) == ("1", "0" * 16)
    assert "this kernel does not confine the decode worker by: landlock, seccomp" in capfd.readouterr().err


async def test_a_worker_ends_with_its_server_while_its_engine_is_made(tmp_path: Path) -> None:
    spec = WorkerSpec("decode", "tests.support.prisoner:Slow", {"began": str(tmp_path / "began")})
    worker = await WorkerProcess.start(spec)
    await until((tmp_path / "began").exists)
    worker._writer.transport.abort()  # the server's end of the channel
    assert await worker.wait() == 0
    await worker.close()


def test_the_filter_for_every_machine_is_well_formed() -> None:
    """Every jump stays inside, every path ends in an answer, and no number is in two lists."""
    for machine in ("x86_64", "aarch64"):
        made = seccomp.program(machine, 1234)
        assert made[-1][0] == 0x06
        for place, (code, if_true, if_false, _) in enumerate(made):
            if code in (0x15, 0x25, 0x45):
                assert place + 1 + max(if_true, if_false) < len(made)
        column = 0 if machine == "x86_64" else 1
        calls = {**seccomp.DENIED, **seccomp.OWN_PROCESS, "clone": seccomp.CLONE}
        numbers = seccomp.numbers_of(calls, column)
        assert len(set(numbers)) == len(numbers)
        assert max(numbers) <= seccomp.LAST


@pytest.mark.parametrize(
    ("machine", "header"), [("x86_64", "x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "asm-generic/unistd.h")]
)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str, header: str) -> None:
    path = Path("/usr/include") / header
    if not path.exists():
        pytest.skip("the kernel's headers are not installed")
    words = (line.split() for line in path.read_text().splitlines() if line.startswith("#define __NR"))
    known = {name.removeprefix("__NR_").removeprefix("__NR3264_"): number for _, name, number, *_ in words}
    column = 0 if machine == "x86_64" else 1
    calls = {**seccomp.DENIED, **seccomp.OWN_PROCESS, "clone": seccomp.CLONE}
    ours = {name: number for name, numbers in calls.items() if (number := numbers[column]) is not None}
    assert {name: number for name, number in ours.items() if known.get(name, str(number)) != str(number)} == {}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@has_landlock
def test_a_user_without_privileges_is_jailed_too(tmp_path: Path) -> None:
    """In a process of user 65534, as a container has."""
    code = """
import os, sys
from workers.runtime import jail
jail._environment()  # its modules may lie where that user cannot read
os.setgid(65534); os.setuid(65534)
held = jail.enter()
assert not jail.missing(held), held
for attempt in (lambda: open("/etc/group"), os.fork):
    try:
        attempt()
    except PermissionError:
        continue
    sys.exit(f"{attempt} was allowed")
"""
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
