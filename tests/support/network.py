"""Machines of their own, as far as the network goes: network namespaces of Linux, each joined to this one by a cable
that can be cut. What is sent over a cut cable is lost, and nobody is told."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    namespace: str
    address: str  # its own
    cable: str  # this machine's end of it

    def command(self, *command: str) -> list[str]:
        """Runs the command there, in the same process."""
        return ["ip", "netns", "exec", self.namespace, *command]

    def cut(self) -> None:
        _ip("link", "set", self.cable, "down")

    def mend(self) -> None:
        _ip("link", "set", self.cable, "up")


@dataclass(frozen=True)
class Network:
    here: str  # the address of this machine, which all others reach
    machines: Sequence[Machine]

    @property
    def addresses(self) -> str:
        """All of them, as CIDR."""
        return f"{self.here.rpartition('.')[0]}.0/24"


def missing() -> str:
    """Why there can be none here; empty where there can."""
    if os.geteuid() != 0:
        return "network namespaces are made by root"
    if shutil.which("ip") is None:
        return "network namespaces are made by ip (iproute2)"
    name = f"diarserve-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode == 0:
        _ip("netns", "delete", name)
    return made.stderr.strip()


@contextmanager
def joined(machines: int) -> Iterator[Network]:
    """So many (at most 60), until the block ends."""
    number = os.getpid()
    net = f"10.213.{number % 256}"
    with ExitStack() as undo:
        here = f"{net}.1"
        _ip("address", "add", f"{here}/32", "dev", "lo")
        undo.callback(_ip, "address", "delete", f"{here}/32", "dev", "lo")
        made = []
        for at in range(machines):
            name, cable, theirs = f"diarserve-{number}-{at}", f"dv{number}h{at}", f"dv{number}m{at}"
            near, far = f"{net}.{4 * at + 5}", f"{net}.{4 * at + 6}"
            _ip("netns", "add", name)
            undo.callback(_ip, "netns", "delete", name)  # and the cable with it
            _ip("link", "add", cable, "type", "veth", "peer", "name", theirs, "netns", name)
            _ip("address", "add", f"{near}/30", "dev", cable)
            _ip("link", "set", cable, "up")
            _ip("-n", name, "address", "add", f"{far}/30", "dev", theirs)
            for interface in ("lo", theirs):
                _ip("-n", name, "link", "set", interface, "up")
            _ip("-n", name, "route", "add", "default", "via", near)
            made.append(Machine(name, far, cable))
        yield Network(here, made)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
