"""`diarserve install-service`: the systemd unit of this installation, and the user that it runs as."""

from __future__ import annotations

import shutil
import sys
from importlib import resources
from pathlib import Path

import typer

from diarserve.cli.command import Failure
from diarserve.core import configuration
from diarserve.core.settings import LANES, Settings

_LAST = 10  # seconds past stop_seconds after which the server has ended itself (diarserve.cli.watchdog)
_NO_DEVICES = "PrivateDevices=yes\nDevicePolicy=closed"
# The classes of devices in /proc/devices that NVIDIA's driver makes for CUDA.
_DRIVERS = ("nvidia-frontend", "nvidia", "nvidia-uvm")
_GPUS = "\n".join(["DevicePolicy=closed", *(f"DeviceAllow=char-{driver} rw" for driver in _DRIVERS)])


def install(config: Path | None, folder: Path, user: str, *, show: bool) -> int:
    """Write it, or print it. Raises ConfigError for a configuration with which the service would not start."""
    settings = configuration.load(config)
    text = unit(settings, command(), config, user)
    if show:
        typer.echo(text, nl=False)
        return 0
    sysusers = folder.parent.parent / "sysusers.d" / "diarserve.conf"
    try:
        sysusers.parent.mkdir(parents=True, exist_ok=True)
        sysusers.write_text(f'u {user} - "diarserve" /var/lib/diarserve\n')
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "diarserve.service").write_text(text)
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}", hint="Run it as root, or with --print.", code=2) from error
    typer.echo(f"Wrote {folder / 'diarserve.service'} and {sysusers}. Then, as root:", err=True)
    typer.echo("  systemd-sysusers && systemctl daemon-reload && systemctl enable --now diarserve", err=True)
    typer.echo(f"Commands on its data run as its user: sudo -u {user} {command()} keys list --data-dir "
               "/var/lib/diarserve", err=True)  # fmt: skip
    return 0


def unit(settings: Settings, command: str, config: Path | None, user: str) -> str:
    """The text of the unit file."""
    lanes = [lane for name in LANES if (lane := getattr(settings, name))]
    devices = (lane.options(number).get("device", "") for lane in lanes for number in range(lane.most_workers))
    gpus = any(str(device).startswith("cuda") for device in devices)
    at_home = any(str(path).startswith(("/home/", "/root/")) for path in (command, config.resolve() if config else ""))
    values = {
        "command": command,
        "config": f"--config {config.resolve()} " if config else "",
        "stop": f"{settings.stop_seconds + _LAST:.0f}",
        "user": user,
        "home": "read-only" if at_home else "yes",
        "devices": _GPUS if gpus else _NO_DEVICES,
        "capabilities": "CAP_NET_BIND_SERVICE" if 0 < settings.port < 1024 else "",
    }
    text = (resources.files("diarserve.cli") / "diarserve.service").read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def command() -> str:
    """How this installation is called."""
    beside = Path(sys.executable).with_name("diarserve")
    return str(beside if beside.exists() else shutil.which("diarserve") or f"{sys.executable} -m diarserve")
