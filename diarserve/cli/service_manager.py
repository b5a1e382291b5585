"""What systemd is told of a service of Type=notify, by datagrams to the socket that $NOTIFY_SOCKET names.

Nothing where there is none. https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress

from diarserve.core.errors import NotReady
from diarserve.service.service import Service

log = logging.getLogger(__name__)


def tell(*lines: str, patience: float = 1.0, environment: Mapping[str, str] = os.environ) -> None:
    """For example "READY=1". patience: seconds for which it may block while the manager has not read what came before.
    One that does not listen is no reason to fail."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.settimeout(patience)
        with suppress(OSError):
            manager.sendto("\n".join(lines).encode(), address)


def watchdog_seconds(environment: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """After how long without a word systemd takes this process for hung; None where it does not watch.

    >>> watchdog_seconds({"WATCHDOG_USEC": "30000000"})
    30.0
    """
    if environment.get("WATCHDOG_PID", str(pid or os.getpid())) != str(pid or os.getpid()):
        return None
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdecimal() and int(text) else None


async def keep_told(service: Service) -> None:
    """Tell of readiness once, and that the event loop turns for as long as this is not cancelled."""
    tell("STATUS=Loading models")
    async with asyncio.TaskGroup() as group:
        group.create_task(_tell_ready(service))
        if seconds := watchdog_seconds():
            group.create_task(_feed(seconds / 2))


async def _tell_ready(service: Service) -> None:
    """Once the models are loaded, or one never will be: then the server answers, and /readyz says why."""
    try:
        await service.wait_ready()
    except NotReady as error:
        tell("READY=1", f"STATUS=Not ready: {str(error).splitlines()[0]}")
    else:
        tell("READY=1", "STATUS=Ready")


async def _feed(every: float) -> None:
    while True:
        tell("WATCHDOG=1", patience=0)
        await asyncio.sleep(every)
