"""Recordings that no honest client sends, the same for equal seeds: damaged headers and bodies of every container,
samples that are no numbers, absurd shapes, scripts in disguise, bombs of silence.

`run(url, 10_000, seed)` uploads them and counts the answers by status; it raises Misanswered for one of 500 or above.
`python -m tests.support.hostile_recordings --count 1000` sends them through a decoder in this process instead.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from pathlib import Path

import av
import numpy as np
import requests

from tests.support import mutate_wav
from tests.support.encode import encode
from workers.media.decoder import Decoder
from workers.media.samples import Samples

_PATIENCE, _AT_ONCE = 120.0, 4
_RATE = 16_000
CONTAINERS = (  # by FFmpeg's names: container, codec, Hz
    *(("wav", codec, 44_100) for codec in ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le")),
    *(("wav", codec, 16_000) for codec in ("pcm_alaw", "pcm_mulaw")),
    *(("aiff", "pcm_s16be", 22_050), ("flac", "flac", 44_100), ("mp3", "libmp3lame", 44_100), ("adts", "aac", 44_100)),
    *(("ogg", "libopus", 48_000), ("mp4", "aac", 48_000), ("ipod", "alac", 44_100)),
    *(
        ("matroska", "libopus", 48_000),
        ("webm", "libopus", 48_000),
        ("matroska", "eac3", 48_000),
        ("mov", "pcm_s16le", 16_000),
    ),
)
MAGICS = (
    b"RIFF\0\0\0\0WAVE",
    b"fLaC",
    b"OggS",
    b"ID3\4\0\0\0\0\0\0",
    b"\x1a\x45\xdf\xa3",
    b"#!AMR\n",
    b"\0\0\0\x20ftypM4A ",
    b"",
)
SCRIPTS = (
    b"ffconcat version 1.0\nfile /etc/passwd\n",
    b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    b"<?xml version='1.0'?><MPD><BaseURL>http://127.0.0.1:9/</BaseURL></MPD>",
    b"concat:/etc/passwd|/etc/group\n",
    b"sine=frequency=440\n",
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
)
NUMBERS = (float("nan"), float("inf"), float("-inf"), 3e38, 1e-45, -0.0, 1e300)


def hostile(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """So many uploads, each with a name that says what is wrong with it."""
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        kind = rng.choice(KINDS)
        yield f"{seed}-{number}-{kind.__name__.strip('_')}", bytes(kind(rng))


def run(url: str, count: int, seed: int) -> Counter[int]:
    """How many answers had each status, of a server at this address."""
    counts, wrong = Counter[int](), []

    def upload(recording: tuple[str, bytes]) -> tuple[str, int, str]:
        name, data = recording
        answer = requests.post(f"{url}/api/v1/parallel/transcribe", files={"file": (name, data)}, timeout=_PATIENCE)
        return name, answer.status_code, answer.text[:200]

    recordings = hostile(count, seed)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while some := list(islice(recordings, 64)):
            for name, status, text in pool.map(upload, some):
                counts[status] += 1
                if status >= 500:
                    wrong.append(f"{name}: {status} {text}")
    if wrong:
        raise Misanswered(f"{len(wrong)} of {count}, {dict(counts)}:\n" + "\n".join(wrong[:10]))
    return counts


class Misanswered(AssertionError):
    """A server's error where a client is at fault."""


@cache
def originals() -> dict[tuple[str, str], bytes]:
    """Half a second of noise in every container, by container and codec."""
    noise = np.random.default_rng(0).normal(0, 0.1, _RATE // 2).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        return {(form, codec): encode(path, form, codec, noise, rate).read_bytes() for form, codec, rate in CONTAINERS}


def _original(rng: random.Random) -> bytearray:
    return bytearray(rng.choice(list(originals().values())))


def _damaged_header(rng: random.Random) -> bytearray:
    data = _original(rng)
    for _ in range(rng.randint(1, 8)):
        _damage(rng, data, min(len(data), 300))
    return data


def _damaged_body(rng: random.Random) -> bytearray:
    data = _original(rng)
    for _ in range(rng.randint(1, 60)):
        _damage(rng, data, len(data))
    return data


def _damage(rng: random.Random, data: bytearray, end: int) -> None:
    at, length = rng.randrange(end), rng.choice((1, 1, 2, 4, 8))
    data[at : at + length] = rng.choice((rng.randbytes(length), b"\0" * length, b"\xff" * length))


def _cut(rng: random.Random) -> bytearray:
    data = _original(rng)
    return data[: rng.choice((rng.randrange(64), rng.randrange(len(data))))]


def _hole(rng: random.Random) -> bytearray:
    data = _original(rng)
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randrange(1, 2_000) :]


def _joined(rng: random.Random) -> bytearray:
    return _original(rng) + rng.choice((b"", bytes(1), bytes(rng.randrange(5_000)))) + _original(rng)


def _disguised(rng: random.Random) -> bytes:
    """A container's first bytes, and then something else."""
    return rng.choice(MAGICS) + rng.choice((*SCRIPTS, rng.randbytes(5_000), bytes(5_000), b"\xff" * 5_000))


def _grafted(rng: random.Random) -> bytearray:
    """The head of one and the body of another."""
    head = _original(rng)
    return head[: rng.randrange(8, 400)] + _original(rng)[rng.randrange(8, 400) :]


def _wav_header(rng: random.Random) -> bytes:
    return next(mutate_wav.damaged(1, rng.randrange(2**32)))


def _float_samples(rng: random.Random) -> bytes:
    """Not a number, infinite, and huge samples: some, or nothing else."""
    bits, channels = rng.choice((32, 64)), rng.choice((1, 2))
    samples = np.random.default_rng(rng.randrange(2**32)).normal(0, 0.1, 8_000 * channels)
    where = rng.choice((slice(0, 1), slice(None, None, 97), slice(None), slice(-1, None), slice(100, 200)))
    with np.errstate(over="ignore"):
        samples[where] = rng.choice(NUMBERS)
        data = samples.astype(f"<f{bits // 8}").tobytes()
    return _wav(mutate_wav.FLOAT, channels, _RATE, bits, data)


def _absurd_shape(rng: random.Random) -> bytes:
    channels, rate = (
        rng.choice((0, 1, 2, 9, 255, 256, 65_535)),
        rng.choice((0, 1, 100, 3_999, 192_000, 2**31, 2**32 - 1)),
    )
    bits = rng.choice((0, 1, 7, 8, 12, 16, 20, 24, 32, 64, 65_535))
    tag = rng.choice((0, 1, 2, 3, 6, 7, 0x11, 0x31, 0x55, 0xFF, 0x161, 0x2000, 0xFFFE, 0xFFFF))
    return _wav(tag, channels, rate, bits, rng.randbytes(rng.choice((0, 1, 3, 4_001))))


def _silence(rng: random.Random) -> bytes:
    """Hours, in a few kilobytes."""
    return _bomb(rng.choice((600, 3_600)))


@cache
def _bomb(seconds: int) -> bytes:
    silence: Samples = np.zeros(seconds * _RATE, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        return encode(Path(folder) / "file", "flac", "flac", silence).read_bytes()


def _wav(tag: int, channels: int, rate: int, bits: int, data: bytes) -> bytes:
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * frame % 2**32, frame % 2**16, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


Kind = Callable[[random.Random], bytes | bytearray]
KINDS: tuple[Kind, ...] = (
    *(_damaged_header, _damaged_header, _damaged_body, _damaged_body, _cut, _hole, _joined, _disguised, _grafted),
    *(_wav_header, _float_samples, _absurd_shape, _silence),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    av.logging.set_level(None)
    engine, outcomes = Decoder(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for name, upload in hostile(arguments.count, arguments.seed):
            outcome = mutate_wav.outcome(engine, upload, Path(folder))
            outcomes[outcome] += 1
            if outcome.startswith("5"):
                print(name, outcome)
    for outcome, count in outcomes.most_common():
        print(f"{count:6} {outcome}")
    return int(any(outcome.startswith("5") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
