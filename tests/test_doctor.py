"""What `diarserve doctor` says of the machine."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diarserve.cli import machine
from diarserve.cli.machine import Check
from diarserve.core.settings import Settings

Make = Callable[..., Settings]


def named(name: str, settings: Settings) -> Check:
    return next(check for check in machine.checks(settings) if check.name == name)


def test_a_machine_that_is_well_has_no_problem(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        resource, "getrlimit", lambda which: (65536, 65536) if which == resource.RLIMIT_NOFILE else (-1, -1)
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 40))
    checked = {check.name: check for check in machine.checks(settings(port=0))}
    assert {"open files", "disk", "clock", "port"} == checked.keys()
    assert [check for check in checked.values() if check.problem and check.name != "clock"] == []


def test_traces_by_a_protocol_that_is_not_spoken_are_told(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    traces = named("traces", settings(tracing={"endpoint": "http://collector:4317"}))
    assert "collector:4317" in traces.found
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=grpc is not supported" in traces.problem
    assert "4318" in traces.problem
    assert not traces.blocks


def test_few_descriptors_and_little_address_space_are_told(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    few = named("open files", settings())
    assert "LimitNOFILE" in few.problem
    assert not few.blocks
    assert "ulimit -v" in named("address space", settings()).problem


@pytest.mark.parametrize(("mib", "blocks"), [(100, True), (1000, False)])
def test_a_disk_that_is_full_or_will_be_soon(
    settings: Make, monkeypatch: pytest.MonkeyPatch, mib: int, blocks: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=mib << 20))
    disk = named("disk", settings())
    assert disk.problem
    assert disk.blocks == blocks


def test_a_data_directory_that_cannot_be_written(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert named("disk", settings()).blocks


@pytest.mark.parametrize(("state", "problem"), [(0, False), (5, True)])
def test_a_clock_that_nobody_sets(settings: Make, monkeypatch: pytest.MonkeyPatch, state: int, problem: bool) -> None:
    library: Any = SimpleNamespace(adjtimex=lambda _: state)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    assert bool(named("clock", settings()).problem) == problem


def test_a_key_that_others_may_read(settings: Make, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("")
    key.chmod(0o640)
    made = settings(tls={"certificate": key, "key": key})
    assert "chmod 600" in named("TLS key", made).problem
    key.chmod(0o600)
    assert not named("TLS key", made).problem


def test_a_port_that_is_taken(settings: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert "a server run already" in named("port", settings(port=port)).problem
    assert not named("port", settings(port=port)).problem


def test_a_gpu_without_a_driver(settings: Make) -> None:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        made = settings(whisper={"device": "cuda"})
        assert "install NVIDIA's driver" in named("GPU driver", made).problem
    else:
        pytest.skip("this machine has one")
