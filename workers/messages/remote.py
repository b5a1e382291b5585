"""What a worker on another machine and the server say to each other before and beside a worker's own messages.

A worker calls the server. Both show that they know the worker's token, which nobody sends: HMAC-SHA256 over both sides'
fresh nonces (RFC 2104; the order of messages is that of TLS's mutual authentication, server first).

    worker: Greeting(worker, purpose, nonce)
    server: Challenge(nonce, proof)
    worker: Proof(proof, place)
    then, for "channel": the frames of workers.runtime.channel, WorkerSpec first
          for "audio":   Fetch(sha256), answered by that file's bytes
"""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from workers.messages import AudioRef, Request, Transcribe
from workers.messages.values import Message

Purpose = Literal["channel", "audio"]
_SCHEME = "sha256:"


class Greeting(Message, frozen=True):
    worker: str  # which: no secret
    purpose: Purpose
    nonce: bytes


class Challenge(Message, frozen=True):
    nonce: bytes
    proof: bytes  # that the server knows the token


class Place(Message, frozen=True):
    """Where the worker is."""

    node: str  # the machine's name
    pid: int
    shares_files: bool  # whether the server's paths are this machine's too


class Proof(Message, frozen=True):
    proof: bytes
    place: Place


class Fetch(Message, frozen=True):
    sha256: str  # of the file, in hexadecimal


class Call(Message, frozen=True):
    """Whom a worker calls, and how."""

    host: str
    port: int
    worker: str
    token: bytes
    certificate: bytes | None = None  # the server's, in DER, which alone is accepted; None: no TLS
    data_dir: str = ""  # the server's, with its device and inode: the same ones are the same machine's
    data_id: tuple[int, int] = (0, 0)
    share_files: bool = True
    cache_dir: str = ""  # for audio; default: in the temporary folder
    cache_bytes: int = 4 * 1024**3


def content_path(sha256: str, size: int) -> str:
    """What stands for a path in an AudioRef that is fetched by its content.

    >>> content_path("ab" * 32, 7)[:10], content_of(content_path("ab" * 32, 7))[1]
    ('sha256:aba', 7)
    """
    return f"{_SCHEME}{sha256}:{size}"


def content_of(path: str) -> tuple[str, int] | None:
    """Hash and size in bytes of what is to be fetched; None for a path."""
    if not path.startswith(_SCHEME):
        return None
    sha256, _, size = path.removeprefix(_SCHEME).partition(":")
    return sha256, int(size)


def audio_of(request: Request) -> AudioRef | None:
    """What the request reads. All of its channels lie in one file."""
    if isinstance(request, Transcribe) and request.channels:
        return request.channels[0]
    return getattr(request, "audio", None)


def with_audio(request: Request, path: str, pcm: int | None) -> Request:
    """The request with its samples in another file."""
    changes = {}
    if isinstance(request, Transcribe):
        changes["channels"] = tuple(replace(channel, path=path, pcm=pcm) for channel in request.channels)
    return replace(request, audio=replace(request.audio, path=path, pcm=pcm), **changes)  # type: ignore[union-attr]
