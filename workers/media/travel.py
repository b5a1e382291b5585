"""Samples as they travel to another machine: 16-bit, half of float32.

python -m workers.media.travel audio.f32 audio.s16 480000    # samples of all channels; prints the SHA-256 and the size

Samples are rounded to the nearest of 65,536 levels, -98 dB beside a full-scale tone; what was decoded from 16-bit audio
of 16 kHz comes out as it went in.
"""

from __future__ import annotations

import hashlib
import sys

import numpy as np

from workers.media.private_files import create_private

_BLOCK = 1 << 20  # samples


def convert(source: str, target: str, samples: int) -> tuple[str, int]:
    """float32 of the machine's byte order to 16-bit, little-endian. The hash and the size of what was written."""
    digest = hashlib.sha256()
    data = np.memmap(source, dtype=np.float32, mode="r", shape=(samples,)) if samples else np.zeros(0, np.float32)
    with create_private(target) as file:
        for start in range(0, samples, _BLOCK):
            block = np.clip(np.rint(data[start : start + _BLOCK] * 32768.0), -32768, 32767).astype("<i2").tobytes()
            digest.update(block)
            file.write(block)
    return digest.hexdigest(), 2 * samples


if __name__ == "__main__":
    print(*convert(sys.argv[1], sys.argv[2], int(sys.argv[3])))
