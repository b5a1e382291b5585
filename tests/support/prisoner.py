"""An engine in a jail that tries to get out. What it tries, and how it ends, is its answer: words of a transcript."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.engine import Engine, JobSteps, WorkItem
from workers.messages import Decode, Request, Transcript, Word

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_ADMIN = 21


class Prisoner(Engine):
    jailed = True

    def __init__(self, server: int = 0) -> None:
        """`server`: a process that is not its own."""
        self._server = server

    def describe(self) -> Mapping[str, Any]:
        return {"model": "prisoner", "device": "cpu", "jail": dict(self.jail)}

    def job(self, request: Request) -> JobSteps:
        """Beside the folder with its files is that of another job, of the same form."""
        assert isinstance(request, Decode)
        ends = yield [WorkItem(name, request) for name in attempts(request, self._server)]
        return Transcript(tuple(Word(said, 0, 0, 1) for said in ends), "en", "prisoner")

    def run(self, items: Sequence[WorkItem]) -> Sequence[str]:
        return [f"{item.key}={_end(attempts(item.payload, self._server)[str(item.key)])}" for item in items]


def attempts(request: Decode, server: int) -> Mapping[str, Callable[[], object]]:
    folder = Path(request.source).parent
    other = folder.with_name("other")
    stranger = folder.parent.parent / "stranger"
    source, target = request.descriptors or (-1, -1)
    return {
        "read-its-source": lambda: _read(source),
        "write-its-target": lambda: _write(target),
        "import-a-module": lambda: __import__("wave"),
        "start-a-thread": _start_a_thread,
        "signal-itself": lambda: os.kill(os.getpid(), 0),
        "open-a-socket": socket.socket,
        "open-a-unix-socket": lambda: socket.socket(socket.AF_UNIX),
        "make-a-socketpair": socket.socketpair,
        "connect-what-is-open": _connect,
        "read-a-neighbour-of-passwd": Path("/etc/group").read_text,
        "read-the-environment-of-the-server": Path(f"/proc/{server}/environ").read_bytes,
        "write-its-source": lambda: os.write(source, b"mine"),
        "truncate-its-source": lambda: os.truncate(source, 0),
        "read-its-target": lambda: os.read(target, 1),
        "open-its-source": Path(request.source).read_bytes,
        "open-its-source-again": lambda: os.open(f"/proc/self/fd/{source}", os.O_RDWR),
        "open-its-target": lambda: Path(request.target).write_bytes(b"mine"),
        "remove-its-target": Path(request.target).unlink,
        "make-a-file-beside-its-own": folder.joinpath("new").touch,
        "read-another-jobs-source": (other / "upload").read_bytes,
        "write-another-jobs-source": lambda: (other / "upload").write_bytes(b"mine"),
        "write-another-jobs-target": lambda: (other / "audio.f32").write_bytes(b"mine"),
        "truncate-another-jobs-target": lambda: os.truncate(other / "audio.f32", 0),
        "swap-another-jobs-files": lambda: os.rename(other / "audio.f32", other / "upload"),
        "link-to-another-jobs-file": lambda: os.link(other / "upload", folder / "link"),
        "list-its-folder": lambda: os.listdir(folder),
        "list-the-root": lambda: os.listdir("/"),
        "read-a-strangers-file": stranger.read_text,
        "write-a-strangers-file": lambda: stranger.write_text("mine"),
        "truncate-a-strangers-file": lambda: os.truncate(stranger, 0),
        "change-the-mode-of-a-strangers-file": lambda: os.chmod(stranger, 0o777),
        "write-to-tmp": lambda: Path("/tmp/of-the-prisoner").write_text("mine"),
        "write-to-its-environment": lambda: Path(__file__).with_name("of-the-prisoner").write_text("mine"),
        "make-a-folder": (folder / "folder").mkdir,
        "link-a-strangers-file": lambda: os.symlink(stranger, folder / "link"),
        "watch-names": lambda: _call(294, 26, 0),  # inotify_init1
        "run-a-program": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        "become-a-program": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
        "fork": _fork,
        "trace": lambda: _call(101, 117, 0, 0, 0, 0),
        "kill-the-server": lambda: os.kill(server, 0),
        "limit-the-server": lambda: resource.prlimit(server, resource.RLIMIT_NOFILE, (9, 9)),
        "hold-the-server": lambda: os.pidfd_open(server),
        "read-the-servers-memory": lambda: _call(310, 270, server, 0, 0, 0, 0, 0),
        "mount": lambda: _call(165, 40, b"none", b"/mnt", b"tmpfs", 0, 0),
        "load-a-filter-into-the-kernel": lambda: _call(321, 280, 0, 0, 0),
        "a-ring-of-system-calls": lambda: _call(425, 425, 1, 0),
        "a-file-in-memory": lambda: os.memfd_create("program"),
        "a-new-user-namespace": lambda: _call(272, 97, 0x10000000),
        "a-call-that-is-newer-than-the-list": lambda: _call(500, 500),
        "get-capabilities-back": lambda: _raise_capabilities(),
    }


def _end(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except RuntimeError as error:
        return str(error)
    return "done"


def _read(source: int) -> None:
    if os.pread(source, 100, 0) != b"its recording":
        raise RuntimeError("another file")


def _write(target: int) -> None:
    os.pwrite(target, b"samples", 0)
    os.ftruncate(target, 4)


def _start_a_thread() -> None:
    ran = threading.Event()
    thread = threading.Thread(target=ran.set)
    thread.start()
    thread.join()
    assert ran.is_set()


def _connect() -> None:
    for number in filter(_is_a_socket, range(3, 256)):
        with socket.socket(fileno=os.dup(number)) as channel:
            channel.connect("/dev/log")


def _is_a_socket(number: int) -> bool:
    with contextlib.suppress(OSError):
        return os.fstat(number).st_mode & 0o170000 == 0o140000
    return False


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _call(x86_64: int, aarch64: int, *arguments: object) -> None:
    number = aarch64 if os.uname().machine == "aarch64" else x86_64
    if _libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _raise_capabilities() -> None:
    import struct

    everything = struct.pack("=6I", *([2**32 - 1] * 6))
    _call(126, 91, struct.pack("=Ii", 0x20080522, 0), everything)


class Slow(Prisoner):
    """Is never made."""

    def __init__(self, began: str) -> None:
        Path(began).touch()
        threading.Event().wait()
