"""Build a target of the Containerfile in chroots, and run its server as a container engine would:

    python -m tests.support.container_test [--target cpu] [--keep FOLDER]

As root, on Debian with debootstrap. The server runs as process 1 of its own process namespace, as the image's numeric
user without capabilities, on a read-only bind mount with one volume and nothing else to write to. What this does not
show: the image's layers and registry, the engine's seccomp profile, its network, cgroup limits, a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.support import recordings
from tests.support.chroot_build import Build, base_image
from tests.support.containerfile import Stage, stages
from tests.support.paths import REPOSITORY
from tests.support.waiting import wait_until

_API = "/api/v1/parallel"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--keep", type=Path, help="build here, and leave it: a base that is there is used again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="diarserve-container-") as made:
        folder: Path = options.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        base, roots = folder / "base", folder / "roots"
        if not base.exists():
            base_image(base)
        shutil.rmtree(roots, ignore_errors=True)
        roots.mkdir()
        found = stages(REPOSITORY / "Containerfile", {})
        build = Build(found, base, REPOSITORY, roots, {})
        began = time.monotonic()
        root, environment, workdir = build.stage(options.target)
        print(f"\n{build.commands} RUN instructions executed in {time.monotonic() - began:.0f} s")
        report_sizes(root)
        volume = folder / "volume"
        shutil.rmtree(volume, ignore_errors=True)
        # As an engine makes an empty volume from what the image has there.
        subprocess.run(["cp", "-a", root / "data", volume], check=True)
        container = Container(root, environment, workdir, volume, found[options.target])
        headers = container.check_keys()
        if options.target == "cpu":
            container.check_service(headers)
        else:
            said("not started: its models are the hub's")


def report_sizes(root: Path) -> None:
    packages = next((root / "opt/diarserve/lib").glob("python3*")) / "site-packages"
    largest = sorted(mebibytes(*packages.iterdir()), reverse=True)[:12]
    print("MiB on the disk:")
    for size, path in [*mebibytes(root), *mebibytes(root / "opt/diarserve"), *largest]:
        print(f"  {size:>6}  /{path.relative_to(root)}")


def mebibytes(*paths: Path) -> list[tuple[int, Path]]:
    listed = subprocess.run(["du", "-xsm", *paths], capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in listed.stdout.splitlines()]
    return [(int(size), Path(path)) for size, path in rows]


class Container:
    def __init__(self, root: Path, environment: dict[str, str], workdir: str, volume: Path, stage: Stage) -> None:
        said = {each.word: each.text for each in stage.instructions}
        self._entry: list[str] = json.loads(said["ENTRYPOINT"])
        self._command: list[str] = json.loads(said["CMD"])
        self._health: list[str] = json.loads(said["HEALTHCHECK"].partition("CMD ")[2])
        self._user, self._group = said["USER"].split(":")
        assert int(self._user) > 0, "the user must be a number"
        self._root, self._volume, self._workdir = root, volume, workdir
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self._environment = {**environment, "DIARSERVE_PORT": str(self._port)}
        self._url = f"http://127.0.0.1:{self._port}"

    def check_keys(self) -> dict[str, str]:
        """The header of one that was made."""
        refused = self._run(*self._command)
        assert refused.returncode == 2, refused
        assert "access key" in refused.stderr
        said("without a key it refuses to start, exit code 2")
        key = self._run("keys", "add", "app", "--role", "admin")
        assert key.returncode == 0, key
        said("a key is made, into the volume")
        return {"Authorization": f"Bearer {key.stdout.strip()}"}

    def check_service(self, headers: dict[str, str]) -> None:
        with self._serving() as process:
            wait_until(lambda: self._answers("/readyz"), 300)
            status = Path(f"/proc/{process.pid}/status").read_text()
            rows = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            assert rows["Uid"].split()[0] == self._user
            assert int(rows["CapBnd"], 16) == 0
            said(f"ready; process 1 of its namespace: {rows['NSpid']}, user {rows['Uid'].split()[0]}, no capability")
            assert self._exec(process, *self._health).returncode == 0
            assert self._exec(process, "sh", "-c", "touch /opt/x || touch /tmp/x || touch /x").returncode != 0
            said(f"its health check {' '.join(self._health)} ends with 0; nothing but the volume can be written to")
            document = self._transcribed(headers)
            assert document["speakers"] == ["SPEAKER_00", "SPEAKER_01"]
            words = len(document["text"].split())
            seconds = document["performance"]["processing_time"]
            said(f"a telephone call of 30 s: {words} words of {len(document['speakers'])} speakers in {seconds:.1f} s")
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
            assert code == 0, code
            said(f"SIGTERM: exit code {code} after {time.monotonic() - began:.1f} s")
        files = [path for path in self._volume.rglob("*") if path.is_file()]
        assert {path.stat().st_uid for path in files} == {int(self._user)}
        said(f"in the volume: {', '.join(sorted(str(path.relative_to(self._volume)) for path in files))}")

    def _transcribed(self, headers: dict[str, str]) -> dict[str, Any]:
        with recordings.sample().open("rb") as file:
            url = f"{self._url}{_API}/transcribe"
            answer = requests.post(url, files={"file": file}, headers=headers, timeout=600)
        answer.raise_for_status()
        document: dict[str, Any] = answer.json()
        return document

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = self._isolated([*self._entry, *arguments])
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    @contextmanager
    def _serving(self) -> Iterator[psutil.Process]:
        """Process 1 of the container."""
        outer = subprocess.Popen(self._isolated([*self._entry, *self._command]))
        try:
            wait_until(lambda: psutil.Process(outer.pid).children())
            yield _Inner(psutil.Process(outer.pid).children()[0].pid, outer)
        finally:
            outer.kill()
            outer.wait()

    def _exec(self, process: psutil.Process, *command: str) -> subprocess.CompletedProcess[bytes]:
        """As `podman exec`."""
        inside = ["nsenter", "-t", str(process.pid), "--mount", "--pid", "--root", f"--wdns={self._workdir}"]
        return subprocess.run([*inside, *self._as_user(command)], check=False, timeout=60, stderr=subprocess.DEVNULL)

    def _as_user(self, command: Sequence[str]) -> list[str]:
        who = [f"--reuid={self._user}", f"--regid={self._group}", "--clear-groups"]
        nothing = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        return ["/usr/bin/setpriv", *who, *nothing, "/usr/bin/env", "-i", *variables, *command]

    def _isolated(self, command: Sequence[str]) -> list[str]:
        """In mount and process namespaces of its own, with the root read-only."""
        root = f"{self._root}.mounted"
        os.makedirs(root, exist_ok=True)
        steps = [
            f"mount --bind {self._root} {root}",
            f"mount --bind {self._volume} {root}/data",
            f"mount -t proc proc {root}/proc",
            f"mount -t tmpfs tmpfs {root}/dev",
            *(f"touch {root}/dev/{name} && mount --bind /dev/{name} {root}/dev/{name}" for name in _DEVICES),
            f"mkdir -m 1777 {root}/dev/shm && mount -t tmpfs -o size=64m tmpfs {root}/dev/shm",
            f"mount -o remount,ro {root}/dev",
            f"mount -o remount,bind,ro {root}",
        ]
        inner = f"cd {self._workdir} && exec {shlex.join(self._as_user(command))}"
        script = f"set -e; {'; '.join(steps)}; exec chroot {root} /bin/sh -c {shlex.quote(inner)}"
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]

    def _answers(self, path: str) -> bool:
        try:
            return requests.get(self._url + path, timeout=10).status_code == 200
        except requests.ConnectionError:
            return False


_DEVICES = ("null", "zero", "full", "random", "urandom")


class _Inner(psutil.Process):
    """Whose exit code `unshare` passes on."""

    def __init__(self, pid: int, outer: subprocess.Popen[bytes]) -> None:
        super().__init__(pid)
        self._outer = outer

    def wait(self, timeout: float | None = None) -> int:
        return self._outer.wait(timeout)


def said(text: str) -> None:
    print(f"ok: {text}", flush=True)


if __name__ == "__main__":
    main()
