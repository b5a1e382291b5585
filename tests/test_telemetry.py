"""Nobody is asked and nobody is told: what the processes of a server, of the command line and of a program open, as
strace sees it, from their start over a recording to their end."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import requests

from tests.support.paths import REPOSITORY
from tests.support.server import API, until_ready

CALLS = (
    "socket,connect,bind,sendto,sendmsg,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,symlink,link,linkat"
)
# --seccomp-bpf: other calls cost nothing. It needs -f, and leaves processes that outlive strace without these calls.
STRACE = ("strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "4096", "-e", f"trace={CALLS}")

# What these tests themselves may run with.
TELEMETRY = ("ORT_DISABLE_TELEMETRY", "PYANNOTE_METRICS_ENABLED", "OTEL_SDK_DISABLED", "DO_NOT_TRACK")

pytestmark = [
    pytest.mark.models,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
    pytest.mark.timeout(300),
]


class Call(NamedTuple):
    name: str
    arguments: str
    result: str


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The user's, where libraries keep caches and databases."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def strace(tmp_path: Path, home: Path) -> list[str]:
    """The beginning of a command that is traced."""
    (tmp_path / "tmp").mkdir()
    variables = {"HOME": home, "TMPDIR": tmp_path / "tmp", "PYTHONPATH": REPOSITORY, "PYTHONDONTWRITEBYTECODE": "1"}
    assignments = [f"{name}={value}" for name, value in variables.items()]
    unset = [f"--unset={name}" for name in ("XDG_CACHE_HOME", "HF_HUB_OFFLINE", *TELEMETRY)]
    return ["env", *unset, *assignments, *STRACE, "-o", str(tmp_path / "trace")]


def calls(trace: Path) -> list[Call]:
    """Those that succeeded, whole: strace parts a call that another process interrupts into two lines."""
    begun: dict[str, str] = {}
    found = []
    for line in trace.read_text(errors="replace").splitlines():
        pid, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            begun[pid] = text.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>", text):
            text = begun.pop(pid, "") + text[resumed.end() :]
        if call := re.fullmatch(r"(\w+)\((.*)\)\s+= (-?\w+.*)", text):
            found.append(Call(*call.groups()))
    return found


def check(tmp_path: Path, home: Path) -> None:
    seen = calls(tmp_path / "trace")
    assert len(seen) > 1000, "the trace is empty: the calls' names are others on this machine"
    opened = {call.arguments.split('"')[1] for call in seen if call.name == "openat"}
    assert {"silero_vad_v6.onnx", "model.bin", "segmentation.onnx"} <= {Path(path).name for path in opened}
    # Sockets: Unix ones, and the one that listens on loopback. No resolver, no other machine.
    kinds = {call.arguments.split(",")[0] for call in seen if call.name == "socket" and not call.result.startswith("-")}
    assert kinds <= {"AF_UNIX", "AF_INET"}
    strangers = [call for call in seen if call.name in ("connect", "bind", "sendto", "sendmsg") and _leaves(call)]
    assert strangers == []
    # Files: in the data directory, which lies in tmp_path, and in the folder for temporary files.
    written = {path for call in seen if not call.result.startswith("-") for path in _written(call)}
    elsewhere = {path for path in written if not _ours(path, tmp_path)}
    assert elsewhere == set()
    assert list(home.iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def _leaves(call: Call) -> bool:
    """Whether it may reach another machine, or another program of this one: a name service, a bus."""
    if "sa_family" not in call.arguments:
        return False  # on a connection that is there: the traced `connect` or the client's own
    return not re.search(r'sin_addr=inet_addr\("127\.0\.0\.1"\)', call.arguments) and "AF_UNSPEC" not in call.arguments


def _written(call: Call) -> Iterator[str]:
    if call.name in ("open", "openat"):
        if re.search(r"O_(WRONLY|RDWR|CREAT)", call.arguments):
            yield call.result.partition("<")[2].removesuffix(">") or call.arguments
    elif call.name in ("creat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "symlink", "link", "linkat"):
        yield re.findall(r'"([^"]*)"', call.arguments)[-1]


def _ours(path: str, tmp_path: Path) -> bool:
    path = path.removesuffix("(deleted)").removesuffix(">")
    return path.startswith((f"{tmp_path}/", "/dev/", "/proc/self/", "/proc/thread-self/")) or bool(
        re.match(r"/proc/\d+/|/memfd:|[a-z_]+:", path)
    )


def traced(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr


def test_a_server_tells_nobody(strace: list[str], tmp_path: Path, home: Path, sample: Path) -> None:
    serve = [sys.executable, "-m", "diarserve", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen([*strace, *serve], stderr=subprocess.PIPE, text=True) as tracer:
        processes = [psutil.Process(tracer.pid)]
        try:
            assert tracer.stderr
            url = next(found[0] for line in tracer.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            processes += processes[0].children(recursive=True)
            until_ready(url)
            with sample.open("rb") as file:
                answer = requests.post(f"{url}{API}/transcribe", files={"file": file}, timeout=200)
            assert len(answer.json()["segments"]) > 3
            processes[1].terminate()
            tracer.communicate(timeout=60)
            assert tracer.returncode == 0
        finally:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
    check(tmp_path, home)


def test_the_command_line_tells_nobody(strace: list[str], tmp_path: Path, home: Path, sample: Path) -> None:
    traced([*strace, sys.executable, "-m", "diarserve", "transcribe", str(sample), "-o", str(tmp_path / "call.txt")])
    check(tmp_path, home)


def test_a_program_with_models_in_its_threads_tells_nobody(
    strace: list[str], tmp_path: Path, home: Path, sample: Path
) -> None:
    script = """
import asyncio, sys
from diarserve import ParallelDiarizationService

async def main() -> None:
    async with ParallelDiarizationService(use_process_pool=False) as service:
        assert len((await service.process(sys.argv[1])).segments) > 3

asyncio.run(main())
"""
    traced([*strace, sys.executable, "-c", script, str(sample)])
    check(tmp_path, home)
