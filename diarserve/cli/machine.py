"""What operators get wrong about a machine: limits, disk, clock, driver, keys, traces, ports. Nothing is changed."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from diarserve.access import key_file
from diarserve.core.settings import LANES, MIB, Settings
from diarserve.http.connections import most_connections
from diarserve.observe import tracer

_ROOM_MIB = 4096  # a recording of an hour as it comes and decoded is 0.3 GB: room for a few beside min_free_mib
_FEW_CONNECTIONS = 200
_UNSYNCHRONIZED = 5  # TIME_ERROR of adjtimex(2)


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    found: str
    problem: str = ""  # what is wrong, and what to do
    blocks: bool = False  # the server cannot work like this; else it works worse


def checks(settings: Settings) -> Iterator[Check]:
    yield _descriptors(settings)
    yield from _memory(settings)
    yield _disk(settings)
    yield _clock()
    if (driver := _driver(settings)) is not None:
        yield driver
    yield from _keys(settings)
    if settings.tracing.enabled:
        address = tracer.endpoint(settings.tracing) or "the default address"
        yield Check("traces", f"sent to {address}", "; ".join(tracer.doubts(settings.tracing)))
    yield _port("port", settings.host, settings.port)
    if settings.access.metrics_port:
        yield _port("metrics port", settings.access.metrics_host, settings.access.metrics_port)


def _descriptors(settings: Settings) -> Check:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # the server raises its own up to this
    lanes = [lane for name in LANES if (lane := getattr(settings, name))]
    room = most_connections(hard if hard > 0 else 1 << 20, sum(lane.most_workers for lane in lanes))
    problem = f"too few for many clients: LimitNOFILE=65536 in the unit, or ulimit -n; {room} connections fit"
    return Check("open files", f"{hard}, for {room} connections", problem if room < _FEW_CONNECTIONS else "")


def _memory(settings: Settings) -> Iterator[Check]:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield Check("address space", f"{soft // MIB} MiB", "models map more than they use: ulimit -v unlimited")


def _disk(settings: Settings) -> Check:
    folder = settings.data_dir.resolve()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return Check("disk", str(folder), f"{there} cannot be written by this user", blocks=True)
    free = shutil.disk_usage(there).free // MIB
    least = settings.limits.min_free_mib + settings.limits.reserve_mib
    found = f"{free} MiB free for {folder}"
    if free <= least:
        return Check("disk", found, f"uploads are refused below min_free_mib: {least} MiB are needed", blocks=True)
    return Check("disk", found, f"room for few recordings: {_ROOM_MIB} MiB or more" if free < least + _ROOM_MIB else "")


def _clock() -> Check:
    """Signatures of callbacks, certificates and traces need it right."""
    buffer = ctypes.create_string_buffer(512)  # struct timex, modes 0: read only
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    state = adjtimex(buffer) if adjtimex else -1
    if state == _UNSYNCHRONIZED:
        return Check("clock", "not synchronized", "receivers refuse callbacks that are minutes off: run an NTP client")
    return Check("clock", "synchronized" if state >= 0 else "the kernel does not say")


def _driver(settings: Settings) -> Check | None:
    """None where no lane is on a GPU."""
    lanes = [lane for name in LANES if (lane := getattr(settings, name))]
    devices = (lane.options(number).get("device", "") for lane in lanes for number in range(lane.most_workers))
    if not any(str(device).startswith("cuda") for device in devices):
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        version, count = pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        return Check(
            "GPU driver", "none answers", f"{error}: install NVIDIA's driver, or let the container have the GPU"
        )
    return Check("GPU driver", f"{version}, {count} devices")


def _keys(settings: Settings) -> Iterator[Check]:
    for name, path in (("keys", key_file.path(settings)), ("TLS key", settings.tls.key)):
        if path is None or not path.exists():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        if not os.access(path, os.R_OK):
            yield Check(name, str(path), "this user cannot read it", blocks=True)
        elif mode & 0o077:
            yield Check(name, str(path), f"others may read it (mode {mode:03o}): chmod 600 {path}")
        else:
            yield Check(name, str(path))


def _port(name: str, host: str, port: int) -> Check:
    """Whether it could be listened on now."""
    if port == 0:
        return Check(name, "any that is free")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((host, port))
        except PermissionError:
            return Check(name, f"{host}:{port}", "below 1024: needs CAP_NET_BIND_SERVICE, or a proxy", blocks=True)
        except OSError as error:
            return Check(name, f"{host}:{port}", f"{error.strerror}; does a server run already?")
    return Check(name, f"{host}:{port} is free")
