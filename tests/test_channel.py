"""What crosses the channel between the server and its workers, and what a worker that was taken over could write."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from msgspec import msgpack

from diarserve.core import errors
from diarserve.observe.metrics import Metrics
from diarserve.pool.lane import Lane
from tests.support.lanes import do, job, restarts
from workers.messages import (
    Align,
    Alignment,
    AudioRef,
    BatchFill,
    BootFailed,
    Cancel,
    Decode,
    Diarization,
    Diarize,
    Done,
    Failed,
    FromWorker,
    JobErrorCode,
    Progress,
    Ready,
    Report,
    Separate,
    Separation,
    Submit,
    ToWorker,
    Transcribe,
    Transcript,
    Turn,
    Word,
    WorkerSpec,
)
from workers.runtime import channel

AUDIO = AudioRef("/spool/audio.f32", 32_000, pcm=44)
WORDS = (Word(" a", 0.1, 0.5, 0.9), Word(" b\N{COMBINING ACUTE ACCENT}", 0.5, 1.0, 0.0))
TO_WORKER: list[ToWorker] = [
    WorkerSpec("whisper", "whisper", {"models": ["a"], "device": "cpu"}, {"A": "b"}, 2**30, None, BatchFill(3)),
    Submit("1", "task", Decode("/a", "/b", 3600.0), 1.5),
    Submit("2", "task", Transcribe(AUDIO, "en", temperature=0.5), -1.0),
    Submit("3", "task", Diarize(AUDIO, 2), 0.0),
    Submit("4", "task", Align(AUDIO, WORDS, "en"), 1e9),
    Submit("5", "task", Separate(AUDIO, "/voices"), 1.0),
    Cancel("1"),
]
FROM_WORKER: list[FromWorker] = [
    Ready({"model": "m", "device": "cpu", "memory": {"kept": 1}}, 0.5),
    BootFailed("no such model"),
    Report({"loaded": ["a"]}, ("load",)),
    Progress("1", 0.5, (WORDS, ())),
    Done("1", AUDIO, 1.0, 0.5),
    Done("2", Transcript(WORDS, "en", "m", ("a warning",)), 1.0, 0.5, degraded=True),
    Done("3", Diarization((Turn(0.0, 1.0, "SPEAKER_00"),), "m"), 1.0, 0.5),
    Done("4", Alignment(WORDS, "m"), 1.0, 0.5),
    Done("5", Separation(AUDIO, None), 1.0, 0.5),
    Failed("1", "undecodable", "It is damaged.", retry=False),
]


@pytest.fixture
async def ends() -> AsyncIterator[tuple[channel.Channel, Any, Any]]:
    """The worker's end, and the server's reader and writer."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    worker = channel.Channel(theirs)
    yield worker, reader, writer
    worker.close()
    writer.close()
    await writer.wait_closed()


async def test_every_message_arrives_as_it_was_sent(ends: Any) -> None:
    worker, reader, writer = ends
    for message in TO_WORKER:
        writer.write(channel.pack(message))
        assert worker.receive() == message
    for said in FROM_WORKER:
        worker.send(said)
        assert await channel.read(reader) == said


async def test_what_numpy_counted_arrives_as_a_number(ends: Any) -> None:
    worker, reader, _ = ends
    word = Word(" a", np.float32(0.5), np.float64(1.5), np.float16(0.25))  # type: ignore[arg-type]
    worker.send(Done("1", Transcript((word,), "en", "m"), 1.0, 0.5))
    worker.send(Ready({"memory": np.int64(3), "on": np.bool_(True)}, 0.5))
    done: Any = await channel.read(reader)
    [arrived] = done.result.words
    assert arrived == Word(" a", 0.5, 1.5, 0.25)
    assert {type(arrived.start), type(arrived.end), type(arrived.probability)} == {float}
    ready: Any = await channel.read(reader)
    assert ready.model == {"memory": 3, "on": True}


def test_what_is_no_message_is_not_sent() -> None:
    with pytest.raises(TypeError, match="object cannot be sent"):
        channel.pack(Ready({"model": object()}, 0.5))


async def test_a_worker_that_is_gone_is_told_from_one_that_babbles(ends: Any) -> None:
    worker, reader, _ = ends
    worker.send(Cancel("1"))  # a message, but not one that a worker sends
    with pytest.raises(channel.ProtocolError):
        await channel.read(reader)
    worker._socket.sendall(channel.pack(BootFailed("a reason"))[:-1])
    worker.end()
    with pytest.raises(EOFError):
        await channel.read(reader)


class Exploit:
    def __reduce__(self) -> Any:
        return Path.touch, (Path(os.environ["PWNED"]),)


def frame(body: bytes) -> bytes:
    return struct.pack("!I", len(body)) + body


def done(result: Any) -> bytes:
    return channel.pack(Done("whisper-0", result, 0.0, 0.0))


BABBLE = {
    "noise": frame(bytes(range(256))),
    "a pickle": b"",  # made in the test
    "another's result": done(AudioRef("/etc/passwd", 1)),
    "half a result": frame(msgpack.encode({"type": "Done", "job": "whisper-0"})),
    "words without times": done({"type": "Transcript", "words": [["a"]], "language": "en", "model": "m"}),
    "an unknown code": frame(
        msgpack.encode({"type": "Failed", "job": "whisper-0", "code": "x", "message": "", "retry": False})
    ),
    "a second Ready": channel.pack(Ready({}, 0.0)),
    "4 GiB announced": struct.pack("!I", 2**32 - 1),
    "an array announced": frame(b"\xdd\xff\xff\xff\xff"),
    "too deep": frame(b"\x82\xa4type\xa5Ready\xa5model\x81\xa1a" + b"\x91" * 1_000_000),
    "broken text": frame(b"\x82\xa4type\xaaBootFailed\xa6reason\xa2\xff\xfe"),
}


@pytest.mark.parametrize("babble", BABBLE)
async def test_a_worker_that_writes_what_is_no_message_is_replaced_and_its_job_done(
    tmp_path: Path, babble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwned = tmp_path / "pwned"
    monkeypatch.setenv("PWNED", str(pwned))
    lane = Lane([WorkerSpec("whisper", "tests.support.standins:Whisper")], Metrics())
    lane.start()
    try:
        request = job(tmp_path, 3, "babble-once whisper")
        (tmp_path / "babble").write_bytes(BABBLE[babble] or frame(pickle.dumps(Exploit())))
        assert len((await do(lane, request)).result.words) == 3
        assert restarts(lane) == 1
        assert not pwned.exists()
    finally:
        await lane.close()


async def test_a_request_that_cannot_be_sent_is_refused_and_holds_up_nothing(tmp_path: Path) -> None:
    lane = Lane([WorkerSpec("whisper", "tests.support.standins:Whisper")], Metrics())
    lane.start()
    try:
        broken = Transcribe(job(tmp_path).audio, prompt="\ud800")
        with pytest.raises(errors.InvalidRequest, match="Unicode"):
            await lane.run(broken, virtual_deadline=0.0)
        nonsense: Any = Transcribe(job(tmp_path).audio, prompt=object())  # type: ignore[arg-type]
        with pytest.raises(errors.ModelFailed):
            await lane.run(nonsense, virtual_deadline=0.0)
        assert len((await do(lane, job(tmp_path))).result.words) == 2
        assert (restarts(lane), lane.state()["workers"][0]["jobs"]) == (0, 0)
    finally:
        await lane.close()


def test_every_code_of_a_failed_job_has_its_status() -> None:
    assert set(errors._JOB_ERRORS) == set(get_args(JobErrorCode))
    statuses = {code: errors.from_job(code, "why").status for code in get_args(JobErrorCode)}
    assert {code for code, status in statuses.items() if status >= 500} == {
        "out_of_memory",
        "storage_full",
        "internal",
        "crashed",
    }
