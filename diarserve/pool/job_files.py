"""The files of a job, opened here for a worker that may not: see workers.runtime.job_files."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from workers.media.private_files import open_private
from workers.messages import Decode, Request, Unpack


@contextlib.contextmanager
def opened(request: Request) -> Iterator[list[int]]:
    """The descriptors of a request's files, none for most requests, while the block lasts. Raises OSError."""
    with contextlib.ExitStack() as files:
        descriptors = []
        if isinstance(request, Decode):
            descriptors.append(os.open(request.source, os.O_RDONLY | os.O_CLOEXEC))
            files.callback(os.close, descriptors[-1])
            descriptors.append(open_private(request.target))
            files.callback(os.close, descriptors[-1])
        elif isinstance(request, Unpack):
            descriptors.append(os.open(request.audio.path, os.O_RDONLY | os.O_CLOEXEC))
            files.callback(os.close, descriptors[-1])
        yield descriptors


def socketpair() -> tuple[socket.socket, socket.socket]:
    """The server's end, which never blocks and takes nothing in, and the worker's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    ours.shutdown(socket.SHUT_RD)
    return ours, theirs
