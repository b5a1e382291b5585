"""WAV files whose headers were damaged, sent through the decoder: how each one ends.

`python -m tests.support.mutate_wav --count 4000` prints the outcomes and exits with 1 if one would be a server error.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from diarserve.core.errors import from_job
from tests.support.drive import drive
from workers.engine import JobError
from workers.media.decoder import Decoder
from workers.messages import AudioRef, Decode

MAX_SECONDS = 4 * 3600.0
PCM, FLOAT, MULAW, EXTENSIBLE = 1, 3, 7, 0xFFFE
FORMATS = (  # tag, channels, Hz, bits
    (PCM, 1, 16_000, 16),
    (PCM, 2, 44_100, 16),
    (PCM, 1, 8_000, 8),
    (PCM, 2, 48_000, 24),
    (FLOAT, 1, 16_000, 32),
    (MULAW, 1, 8_000, 8),
    (EXTENSIBLE, 1, 16_000, 16),
)
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
NAMES = (b"JUNK", b"LIST", b"fact", b"fmt ", b"data", b"ds64", b"\0\0\0\0", b"RIFF")


def damaged(count: int, seed: int = 0) -> Iterator[bytes]:
    """So many files, each half a second of noise behind a header with one to three faults; the same for equal seeds."""
    rng = random.Random(seed)
    for _ in range(count):
        header, sound = _whole(rng)
        for _ in range(rng.choice((1, 1, 2, 3))):
            header = rng.choice(FAULTS)(rng, header)
        yield bytes(header + sound)[: None if rng.random() < 0.95 else rng.randrange(len(header + sound))]


def outcome(engine: Decoder, upload: bytes, folder: Path) -> str:
    """The HTTP status that a client would get, and the code of its error."""
    source = folder / "upload"
    source.write_bytes(upload)
    try:
        audio = drive(engine, Decode(str(source), str(folder / "samples.f32"), MAX_SECONDS))
    except JobError as error:
        refusal = from_job(error.code, error.message)
        return f"{refusal.status} {refusal.code}"
    except Exception as error:
        return f"500 {type(error).__name__}: {error}"
    assert isinstance(audio, AudioRef)
    assert audio.samples > 0
    return "200"


def _whole(rng: random.Random) -> tuple[bytearray, bytes]:
    tag, channels, rate, bits = rng.choice(FORMATS)
    frame = channels * bits // 8
    sound = np.random.default_rng(rng.randrange(2**32)).integers(-9, 9, rate // 2 * frame, np.int8).tobytes()
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
    if tag == EXTENSIBLE:
        form += (
            struct.pack("<HHI", 22, bits, 4) + struct.pack("<H", PCM) + bytes.fromhex("000000001000800000aa00389b71")
        )
    chunks = _chunk(b"fmt ", form)
    if rng.random() < 0.3:
        chunks += _chunk(b"LIST", b"INFOISFT\x04\0\0\0test")
    header = b"RIFF" + struct.pack("<I", 4 + len(chunks) + 8 + len(sound)) + b"WAVE" + chunks
    return bytearray(header + b"data" + struct.pack("<I", len(sound))), sound


def _chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def _flip_a_bit(rng: random.Random, header: bytearray) -> bytearray:
    header[rng.randrange(len(header))] ^= 1 << rng.randrange(8)
    return header


def _replace_bytes(rng: random.Random, header: bytearray) -> bytearray:
    at, length = rng.randrange(len(header)), rng.randint(1, 4)
    header[at : at + length] = rng.randbytes(length)
    return header


def _set_an_extreme_number(rng: random.Random, header: bytearray) -> bytearray:
    at, form = 2 * rng.randrange(len(header) // 2 - 1), rng.choice(("<H", "<I"))
    struct.pack_into(form, header, at, rng.choice(EXTREMES) & (0xFFFF if form == "<H" else 0xFFFFFFFF))
    return header


def _cut_off(rng: random.Random, header: bytearray) -> bytearray:
    return header[: rng.randrange(12, len(header) + 1)] if len(header) > 12 else header


def _remove_bytes(rng: random.Random, header: bytearray) -> bytearray:
    at = rng.randrange(4, max(5, len(header) - 4))
    return header[:at] + header[at + rng.randint(1, 8) :]


def _insert_a_chunk(rng: random.Random, header: bytearray) -> bytearray:
    body = rng.randbytes(rng.choice((0, 1, 4, 17, 28, 300)))
    size = rng.choice((None, None, rng.choice(EXTREMES)))
    at = rng.choice((12, 12, max(12, len(header) - 8), rng.randrange(len(header))))
    return header[:at] + _chunk(rng.choice(NAMES), body, size) + header[at:]


FAULTS: tuple[Callable[[random.Random, bytearray], bytearray], ...] = (
    _flip_a_bit,
    _replace_bytes,
    _set_an_extreme_number,
    _cut_off,
    _remove_bytes,
    _insert_a_chunk,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    engine, outcomes = Decoder(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for upload in damaged(arguments.count, arguments.seed):
            outcomes[outcome(engine, upload, Path(folder))] += 1
    for name, count in outcomes.most_common():
        print(f"{count:6} {name}")
    return int(any(name.startswith("5") for name in outcomes))


if __name__ == "__main__":
    sys.exit(main())
