"""Whether what a worker answers can be the answer. A recording that has taken a worker over writes what it likes."""

from __future__ import annotations

import os
from collections.abc import Mapping

from workers.messages import (
    MAX_CHANNELS,
    RESULTS,
    SAMPLE_RATE,
    AudioRef,
    Decode,
    Follow,
    Listen,
    Request,
    Separate,
    Separation,
    Unpack,
)
from workers.messages.live import UNPACKED, Awaiting, Heard, LiveOutput, LiveSamples, LiveTurns, LiveWords
from workers.runtime.channel import ProtocolError

_LIVE: Mapping[type[Request], type[LiveOutput]] = {Listen: LiveWords, Follow: LiveTurns, Unpack: LiveSamples}


def check(request: Request, result: object) -> None:
    """Raises ProtocolError unless the result is of the request's type and its samples, if any, lie in a file of the
    request."""
    if not isinstance(result, RESULTS[type(request)]):
        raise ProtocolError(f"{type(result).__name__} in answer to {type(request).__name__}")
    match request, result:
        case Decode(source=source, target=target), AudioRef() as audio:
            _check_audio(audio, source, target)
        case Separate(audio=original, target=target), Separation(audio=audio) if audio != original:
            _check_audio(audio, target)


def check_live(request: Request, message: Heard | Awaiting) -> None:
    """Raises ProtocolError for what does not answer the request."""
    output = message.output if isinstance(message, Heard) else None
    kind = _LIVE.get(type(request))
    if kind is None or not (output is None or isinstance(output, kind)):
        raise ProtocolError(f"{type(output or message).__name__} in answer to {type(request).__name__}")
    if isinstance(output, LiveSamples) and (len(output.pcm) > 2 * SAMPLE_RATE * UNPACKED or len(output.pcm) % 2):
        raise ProtocolError(f"{len(output.pcm)} bytes of samples")


def _check_audio(audio: AudioRef, *files: str) -> None:
    if audio.path not in files:
        raise ProtocolError("samples in a file that is not the job's")
    begin, size = (0, 4 * audio.channels) if audio.pcm is None else (audio.pcm, 2)
    if not 1 <= audio.channels <= MAX_CHANNELS or audio.channel != 0 or (audio.pcm is not None and audio.channels > 1):
        raise ProtocolError(f"channel {audio.channel} of {audio.channels}")
    if audio.samples < 0 or begin < 0 or begin + audio.samples * size > os.path.getsize(audio.path):
        raise ProtocolError(f"{audio.samples} samples that the file does not hold")
