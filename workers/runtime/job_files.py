"""Files that the server opened for a worker's jobs, as one in a jail cannot open any (workers.runtime.jail).

They come over a private socketpair of their own, SOCK_SEQPACKET: of each job one packet, with its id and the open
descriptors (SCM_RIGHTS), sent before its Submit.
"""

from __future__ import annotations

import os
import socket

from msgspec.structs import replace

from workers.messages import Decode, Submit, Unpack
from workers.runtime.channel import ProtocolError

_MOST = 16  # descriptors of one job
_ID_BYTES = 256


class JobFiles:
    """The worker's end."""

    def __init__(self, sock: socket.socket, *, wanted: bool) -> None:
        """wanted: whether the engine works with descriptors. Otherwise they are closed, and it opens the paths."""
        self._socket = sock
        self._wanted = wanted

    def attach(self, submit: Submit) -> Submit:
        """The message with the descriptors that came for it. Raises EOFError when the server is gone, and
        ProtocolError."""
        if not submit.files:
            return submit
        descriptors = self._receive(submit)
        if not self._wanted:
            _close(descriptors)
            return submit
        match submit.request, descriptors:
            case Decode() as decode, [source, target]:
                return replace(submit, request=replace(decode, descriptors=(source, target)))
            case Unpack() as unpack, [source]:
                return replace(submit, request=replace(unpack, descriptor=source))
        raise ProtocolError(f"{len(descriptors)} files for {type(submit.request).__name__}")

    def _receive(self, submit: Submit) -> list[int]:
        while True:
            id, descriptors, _, _ = socket.recv_fds(self._socket, _ID_BYTES, _MOST, socket.MSG_CMSG_CLOEXEC)
            if not id:
                raise EOFError
            if id.decode() == submit.job:
                return descriptors
            _close(descriptors)  # of a job whose message could not be sent


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
