"""Recordings that keep arriving: what is heard of them, piece by piece, and what hostile ones cannot do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.drive import drive
from tests.support.encode import encode
from tests.support.leftovers import descriptors
from tests.support.waiting import wait_until
from workers.engine import Await, Emit, JobError
from workers.media.decoder import Decoder
from workers.media.samples import PCM_SCALE, Samples, load
from workers.messages import SAMPLE_RATE, AudioRef, Decode, Unpack
from workers.messages.live import UNPACKED, Append, LiveSamples

Feed = Callable[..., list[LiveSamples]]


def tones(seconds: float) -> Samples:
    """That differ in every second."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.4 * np.sin(2 * np.pi * (300 + 50 * np.floor(time)) * time)).astype(np.float32)


class Recording:
    """A recording that arrives at an engine, as the server and the scheduler bring it there."""

    def __init__(self, path: Path, data: bytes, resume: bytes = b"") -> None:
        path.write_bytes(data)
        self.engine, self.size = Decoder(), len(data)
        self.job = self.engine.live(Unpack(AudioRef(str(path), 0), resume=resume))
        self.asked = next(self.job)
        self.outputs: list[LiveSamples] = []

    def feed(self, there: int, *, flush: bool = False, end: bool = False) -> bool:
        """Whether more was to come of these bytes. Raises StopIteration at the end of the job."""
        assert isinstance(self.asked, Await)
        self.asked = self.job.send(Append("", there, flush, end))
        told = len(self.outputs)
        while not isinstance(self.asked, Await):
            if isinstance(self.asked, Emit):
                assert isinstance(self.asked.output, LiveSamples)
                self.outputs.append(self.asked.output)
                self.asked = self.job.send(None)
            else:
                self.asked = self.job.send(self.engine.run(self.asked))
        assert len(self.outputs) == told + 1
        return self.outputs[-1].more

    def feed_all(self, step: int) -> bytes:
        for there in [*range(step, self.size, step), self.size]:
            more = self.feed(there)
            while more:
                more = self.feed(there, flush=True)
        with pytest.raises(StopIteration):
            self.feed(self.size, end=True)
        return self.pcm

    @property
    def pcm(self) -> bytes:
        return b"".join(output.pcm for output in self.outputs)


Arrive = Callable[..., Recording]


@pytest.fixture
def arrive(tmp_path: Path) -> Iterator[Arrive]:
    """Its thread and its descriptor are given back."""
    made: list[Recording] = []
    before = descriptors()

    def arrives(data: bytes, resume: bytes = b"") -> Recording:
        made.append(Recording(tmp_path / "recording", data, resume))
        return made[-1]

    yield arrives
    for recording in made:
        recording.job.close()
    wait_until(lambda: not any(thread.name == "unpacking" for thread in threading.enumerate()))
    assert descriptors() <= before


FORMS = [
    ("webm", "libopus", 48_000),
    ("ogg", "libopus", 48_000),
    ("mp3", "libmp3lame", 44_100),
    ("adts", "aac", 44_100),
    ("flac", "flac", 16_000),
    ("wav", "pcm_s16le", 48_000),
]


@pytest.mark.parametrize(("form", "codec", "rate"), FORMS, ids=[form for form, _, _ in FORMS])
def test_what_is_heard_is_that_of_the_whole_file(
    arrive: Arrive, tmp_path: Path, form: str, codec: str, rate: int
) -> None:
    path = encode(tmp_path / "whole", form, codec, tones(5), rate)
    whole = load(drive(Decoder(), Decode(str(path), str(tmp_path / "out.f32"), 60.0)))
    heard = arrive(path.read_bytes()).feed_all(997)
    assert arrive(path.read_bytes()).feed_all(10**6) == heard  # however it was cut
    samples = np.frombuffer(heard, "<i2") * PCM_SCALE
    # Of a whole MP3 it is known that its end is padding.
    assert 0 <= len(samples) - len(whole) < 0.1 * SAMPLE_RATE
    assert np.abs(samples[: len(whole) - 100] - whole[:-100]).max() < 2e-4


def test_samples_come_with_the_bytes_that_hold_them(arrive: Arrive, tmp_path: Path) -> None:
    data = encode(tmp_path / "whole.webm", "webm", "libopus", tones(10), 48_000).read_bytes()
    recording = arrive(data)
    recording.feed(len(data) // 2)
    assert len(recording.pcm) / 2 / SAMPLE_RATE == pytest.approx(5, abs=0.3)


def test_a_decoder_that_begins_anew_tells_what_was_not_told(arrive: Arrive, tmp_path: Path) -> None:
    data = encode(tmp_path / "whole.webm", "webm", "libopus", tones(6), 48_000).read_bytes()
    whole = arrive(data).feed_all(1000)
    first = arrive(data)
    first.feed(len(data) // 2)
    second = arrive(data, resume=first.outputs[-1].state)
    second.feed(len(data) // 2)
    assert second.pcm == b""
    assert first.pcm + second.feed_all(1000) == whole


def test_a_dense_recording_is_decoded_no_faster_than_it_is_taken(arrive: Arrive, tmp_path: Path) -> None:
    data = encode(tmp_path / "bomb", "flac", "flac", np.zeros(300 * SAMPLE_RATE, np.float32)).read_bytes()
    assert len(data) < 4 * SAMPLE_RATE  # of two seconds of samples, and it holds 300
    recording = arrive(data)
    assert recording.feed(len(data))
    for _ in range(3):
        assert recording.feed(len(data), flush=True)
    assert [len(output.pcm) for output in recording.outputs] == [2 * UNPACKED * SAMPLE_RATE] * 4


HOSTILE: list[tuple[bytes, str]] = [
    (b"", "empty_audio"),
    (b"no recording" * 100, "unsupported_media"),
    (bytes(5000), "unsupported_media"),
    (b"#EXTM3U\nhttp://127.0.0.1/x" * 10, "unsupported_media"),
    (b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 200, "undecodable"),
    (b"OggS" + bytes(50_000), "undecodable"),
    (b"RIFF\xff\xff\xff\xffWAVEfmt " + bytes(5000), "undecodable"),
    (b"\0\0\0\x18ftypM4A " + bytes(5000), "undecodable"),
]


@pytest.mark.parametrize(("data", "code"), HOSTILE)
def test_hostile_bytes_are_refused(arrive: Arrive, data: bytes, code: str) -> None:
    with pytest.raises(JobError) as refused:
        arrive(data).feed_all(1000)
    assert refused.value.code == code


def test_a_recording_that_turns_to_noise_is_refused(arrive: Arrive, tmp_path: Path) -> None:
    data = bytearray(encode(tmp_path / "whole.aac", "adts", "aac", tones(10), 44_100).read_bytes())
    noise, start = np.random.default_rng(1), 0
    for frame in range(10**6):  # each has 7 bytes of header, of which 13 bits are its size
        size = int.from_bytes(data[start + 3 : start + 6]) >> 5 & 0x1FFF
        if frame > 20:
            data[start + 7 : start + size] = noise.bytes(size - 7)
        start += size
        if start >= len(data):
            break
    recording = arrive(bytes(data))
    with pytest.raises(JobError, match="too little of it can be decoded"):
        recording.feed(len(data))


def test_one_that_is_left_in_the_midst_gives_everything_back(arrive: Arrive, tmp_path: Path) -> None:
    data = encode(tmp_path / "whole.webm", "webm", "libopus", tones(2), 48_000).read_bytes()
    for there in (0, 10, 1000, len(data)):
        recording = arrive(data)
        if there:
            recording.feed(there)
