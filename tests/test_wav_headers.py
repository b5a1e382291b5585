"""WAV files whose headers have sizes that recorders leave behind: all samples that are there are decoded."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.drive import drive
from workers.engine import JobError
from workers.media.decoder import Decoder
from workers.media.samples import Samples, load
from workers.messages import Decode

UNKNOWN = 2**32 - 1
SHAPES = [(channels, rate) for channels in (1, 2) for rate in (16_000, 44_100)]
TEXT = b"INFOISFT\x04\0\0\0test"


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def sizes_of_the_file(right: int) -> dict[str, int]:
    """That recorders write into bytes 4 to 8, before or instead of the right one."""
    fixed = {str(size): size for size in (0, 36, 44, 48, 100)}
    return {"right": right, "unknown": UNKNOWN, "8 too few": right - 8, "odd": right + 1, "large": 2 * right, **fixed}


def sizes_of_the_samples(right: int) -> dict[str, int]:
    placeholders = {"0": 0, "unknown": UNKNOWN, "2^31 - 1": 2**31 - 1}
    return {"right": right, "half": right // 2, "2": 2, "36": 36, "44": 44, "10 too many": right + 10, **placeholders}


def chunks_before(sound: bytes) -> dict[str, bytes]:
    return {
        "nothing": b"",
        "LIST": chunk(b"LIST", TEXT),
        "fact": chunk(b"fact", struct.pack("<I", len(sound) // 2)),
        "bext": chunk(b"bext", bytes(602)),
        "JUNK": chunk(b"JUNK", bytes(28)),
        "JUNK of odd length": chunk(b"JUNK", bytes(27)),
        "LIST without padding": b"LIST" + struct.pack("<I", 17) + b"INFOISFT\x05\0\0\0test!",
        **{
            f"LIST of {size} bytes": chunk(b"LIST", TEXT, size)
            for size in (0, 4, 15, 17, 20, 1_000, len(sound) + 5_000, UNKNOWN)
        },
    }


def form_of(channels: int, rate: int) -> bytes:
    return struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2, channels * 2, 16)


def variants(channels: int, rate: int, sound: bytes) -> Iterator[tuple[str, bytes]]:
    form = chunk(b"fmt ", form_of(channels, rate))
    for (name, before), (samples, data) in itertools.product(
        chunks_before(sound).items(), sizes_of_the_samples(len(sound)).items()
    ):
        body = b"WAVE" + form + before + b"data" + struct.pack("<I", data) + sound
        sizes = sizes_of_the_file(len(body))
        for file in sizes if name in ("nothing", "LIST", "LIST of 20 bytes") else ("right", "36"):
            yield f"{name}; samples: {samples}; file: {file}", b"RIFF" + struct.pack("<I", sizes[file]) + body


def long_variants(channels: int, rate: int, sound: bytes) -> Iterator[tuple[str, bytes]]:
    """RF64 and BW64: the sizes are in a chunk of its own."""
    form = chunk(b"fmt ", form_of(channels, rate))
    whole = 4 + 36 + len(form) + 8 + len(sound)
    sizes = {"right": len(sound), "0": 0, "half": len(sound) // 2, "2^64 - 1": 2**64 - 1}
    for magic, (name, long), data in itertools.product((b"RF64", b"BW64"), sizes.items(), (UNKNOWN, len(sound), 0)):
        ds64 = chunk(b"ds64", struct.pack("<QQQI", whole, long, len(sound) // 2 // channels, 0))
        head = magic + struct.pack("<I", UNKNOWN) + b"WAVE" + ds64 + form
        yield f"{magic!r}; ds64: {name}; samples: {data}", head + b"data" + struct.pack("<I", data) + sound


def noise(channels: int, rate: int) -> bytes:
    values = np.random.default_rng(0).normal(0, 3_000, (rate // 8, channels))
    return values.astype("<i2").tobytes()


class Decoding:
    def __init__(self, folder: Path) -> None:
        self._engine, self._folder = Decoder(), folder

    def __call__(self, upload: bytes) -> Samples:
        source = self._folder / "upload"
        source.write_bytes(upload)
        return load(drive(self._engine, Decode(str(source), str(self._folder / "audio.f32"), 3_600.0)))

    def outcome(self, upload: bytes, whole: Samples) -> str:
        try:
            samples = self(upload)
        except Exception as error:
            return repr(error)
        return "whole" if np.array_equal(samples, whole) else f"{samples.size} samples of {whole.size}"


@pytest.fixture
def decoding(tmp_path: Path) -> Decoding:
    return Decoding(tmp_path)


@pytest.mark.parametrize(("channels", "rate"), SHAPES)
def test_all_samples_are_decoded_whatever_the_header_says(decoding: Decoding, channels: int, rate: int) -> None:
    sound = noise(channels, rate)
    files = dict(variants(channels, rate, sound)) | dict(long_variants(channels, rate, sound))
    whole = np.array(decoding(files["nothing; samples: right; file: right"]))
    assert whole.size == pytest.approx(2_000, abs=2)
    outcomes = {name: decoding.outcome(upload, whole) for name, upload in files.items()}
    assert {name: outcome for name, outcome in outcomes.items() if outcome != "whole"} == {}


@pytest.mark.parametrize(("channels", "rate"), SHAPES)
def test_a_header_whose_sizes_agree_is_believed(decoding: Decoding, channels: int, rate: int) -> None:
    """What it promises beyond the end of the file was cut off; what follows its samples is something else."""
    sound = noise(channels, rate) * 16
    files = dict(variants(channels, rate, sound))
    complete = files["LIST; samples: right; file: right"]
    for kept in (len(complete) // 2, len(complete) * 3 // 4, 200):
        with pytest.raises(JobError, match="cut off") as error:
            decoding(complete[:kept])
        assert error.value.code == "truncated"

    whole = np.array(decoding(complete))
    tag = b"TAG" + bytes(125)
    assert np.array_equal(decoding(complete + tag), whole)  # ID3v1: not in the sizes
    assert np.array_equal(decoding(complete + chunk(b"LIST", TEXT)), whole)
    for size in (0, 36, UNKNOWN):
        unfinished = complete[:4] + struct.pack("<I", size) + complete[8:]
        assert np.array_equal(decoding(unfinished + chunk(b"LIST", TEXT)), whole)
    assert np.array_equal(decoding(complete + complete), whole)
