"""`diarserve doctor`: whether this machine has what the configuration needs."""

from __future__ import annotations

import asyncio
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import typer

import diarserve
from diarserve.access.keyring import Keyring, require_keys_or_loopback
from diarserve.cli import installation, machine
from diarserve.core import configuration
from diarserve.core.configuration import ConfigError
from diarserve.core.settings import LANES, Settings
from diarserve.tasks import stores
from diarserve.tasks.store.protocol import StoreError

_PACKAGES = (
    "aiohttp", "av", "ctranslate2", "faster-whisper", "nemo_toolkit", "onnxruntime", "torch", "torchaudio", "whisperx",
)  # fmt: skip
# torch belongs to the workers: a process of its own looks.
_DEVICES = """
import json, torch
devices = {"cpu": f"{torch.get_num_threads()} threads"}
for index in range(torch.cuda.device_count()):
    device = torch.cuda.get_device_properties(index)
    devices[f"cuda:{index}"] = f"{device.name}, {device.total_memory >> 20} MiB"
print(json.dumps(devices))
"""


def report(config: Path | None) -> int:
    """Print it. Returns 0 if everything is there, else 1. Raises ConfigError."""
    settings = configuration.load(config)
    typer.echo(f"diarserve {diarserve.__version__}, Python {platform.python_version()}, {platform.platform()}")
    typer.echo(f"Configuration  {config or configuration.default_file()}")
    _section("Packages")
    for package in _PACKAGES:
        try:
            _line(package, metadata.version(package))
        except metadata.PackageNotFoundError:
            _line(package, "not installed")
    _section("Needed by the configured engines")
    found = installation.findings(settings)
    for finding in found:
        _line(f"[{finding.lane}]", finding.problem or finding.what, missing=bool(finding.problem))
    _section("Devices")
    devices, failure = _devices()
    for name, description in devices.items():
        _line(name, description)
    absent = [failure] if failure else _absent_devices(settings, devices)
    for problem in absent:
        _line("", problem, missing=True)
    _section("Access")
    unsafe = _why_unsafe(settings)
    _line("", unsafe or f"{len(Keyring(settings))} keys, listens on {settings.host}", missing=bool(unsafe))
    _section("Store")
    unreachable = _why_unreachable(settings)
    kind = f"PostgreSQL, and {settings.store.objects}" if settings.store.shared else f"SQLite in {settings.data_dir}"
    _line("", unreachable or kind, missing=bool(unreachable))
    missing = sum(bool(finding.problem) for finding in found) + len(absent) + bool(unsafe) + bool(unreachable)
    _section("Machine")
    checked = list(machine.checks(settings))
    for check in checked:
        _line(check.name, check.found)
        if check.problem:
            _line("", check.problem, missing=check.blocks, doubtful=not check.blocks)
    missing += sum(check.blocks for check in checked)
    doubtful = sum(bool(check.problem) and not check.blocks for check in checked)
    typer.echo(f"\n{missing} missing" if missing else "\nEverything is there.")
    if doubtful:
        typer.echo(f"{doubtful} to look at: WARNING above.")
    return 1 if missing else 0


def _why_unsafe(settings: Settings) -> str:
    try:
        require_keys_or_loopback(settings)
    except ConfigError as error:
        return str(error)
    return ""


def _why_unreachable(settings: Settings) -> str:
    if settings.store.shared:
        try:
            asyncio.run(stores.reach(settings))
        except (ConfigError, StoreError, OSError) as error:
            return str(error)
    return ""


def _devices() -> tuple[dict[str, str], str]:
    """By name what they are, and why torch cannot tell."""
    done = subprocess.run([sys.executable, "-c", _DEVICES], check=False, capture_output=True, text=True)
    if done.returncode:
        return {}, f"torch does not start: {(done.stderr.splitlines() or ['it says nothing'])[-1]}"
    devices: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return devices, ""


def _absent_devices(settings: Settings, devices: Mapping[str, str]) -> list[str]:
    named = {
        (name, lane.options(worker).get("device", "cpu"))
        for name in LANES
        if (lane := getattr(settings, name))
        for worker in range(lane.most_workers)
    }
    there = ", ".join(devices)
    return [
        f"[{name}] there is no device {device} here; there is: {there}"
        for name, device in sorted(named)
        if ("cuda:0" if device == "cuda" else device) not in devices
    ]


def _section(title: str) -> None:
    typer.secho(title, bold=True)


def _line(name: str, text: str, *, missing: bool = False, doubtful: bool = False) -> None:
    sign = typer.style("MISSING: ", fg="red") if missing else typer.style("WARNING: ", fg="yellow") if doubtful else ""
    typer.echo(f"  {name:<16}{sign}{text}")
