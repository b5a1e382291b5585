"""What keeps a process to itself: no telemetry, and no network unless models may be downloaded.

Recordings are private, and so is that they are worked on: no library may tell anybody. Most of these variables count
only if they are set before the library is imported, ORT_DISABLE_TELEMETRY only before ONNX Runtime's first session.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Mapping
from typing import Any

NO_TELEMETRY: Mapping[str, str] = {
    # ONNX Runtime 1.32 resolves mobile.events.data.microsoft.com and keeps a database in the user's cache.
    "ORT_DISABLE_TELEMETRY": "1",
    "PYANNOTE_METRICS_ENABLED": "false",  # pyannote.audio 4 starts an OpenTelemetry exporter when it is imported
    "OTEL_SDK_DISABLED": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "WANDB_MODE": "disabled",  # NeMo and lightning import it where it is installed
    "WANDB_ERROR_REPORTING": "false",
    "DO_NOT_TRACK": "1",  # https://consoledonottrack.com
}
# https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
OFFLINE: Mapping[str, str] = {"HF_HUB_OFFLINE": "1"}  # transformers reads it too
_YES = ("1", "TRUE", "YES", "ON")


def offline(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment forbids to download models."""
    return environment.get("HF_HUB_OFFLINE", "").upper() in _YES


def stop_telemetry() -> None:
    """In this process, from now on: to be called before libraries of models are imported."""
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)
    if onnxruntime := sys.modules.get("onnxruntime"):  # a program that imported it first
        onnxruntime.disable_telemetry_events()


def refuse_network() -> None:
    """From now on Python code of this process can reach no other machine: it gets a PermissionError. For libraries
    that download what they miss without asking, as NeMo and torch.hub do. It cannot be undone."""
    sys.addaudithook(_refuse_network)


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    # https://docs.python.org/3/library/audit_events.html
    if event == "socket.getaddrinfo" or event == "socket.gethostbyname":
        host = arguments[0]
    elif event == "socket.connect" or event == "socket.sendto":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # text or bytes: a Unix socket
    else:
        return
    if not (host is None or _is_local(host)):
        raise PermissionError("workers have no network unless `download_models = true` allows it")


def _is_local(host: str | bytes) -> bool:
    host = host.decode(errors="replace") if isinstance(host, bytes) else host
    try:
        return host in ("", "localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
