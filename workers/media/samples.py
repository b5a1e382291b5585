"""A recording's samples in a file: read through the page cache, which all workers share, and gone with its folder."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from workers.engine import JobError
from workers.media.private_files import create_private
from workers.messages import AudioRef

Samples = npt.NDArray[np.float32]
PCM_SCALE = np.float32(1 / 32768)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the user's share of it, the size that a file may have


def load(ref: AudioRef) -> Samples:
    """The samples, not to be changed: shape (samples,), float32 in [-1, 1], 16 kHz. Mapped, or converted if they are
    16-bit."""
    if ref.samples == 0:
        return np.zeros(0, dtype=np.float32)  # an empty file cannot be mapped
    if ref.pcm is not None:
        read = np.fromfile(ref.path, "<i2", ref.samples * ref.channels, offset=ref.pcm)
        return read[ref.channel :: ref.channels] * PCM_SCALE
    if ref.channels > 1:
        all_of_them = np.memmap(ref.path, dtype=np.float32, mode="r", shape=(ref.samples, ref.channels))
        return all_of_them[:, ref.channel]
    return np.memmap(ref.path, dtype=np.float32, mode="r", shape=(ref.samples,))


def load_part(ref: AudioRef, first: int, past: int) -> Samples:
    """Some 16-bit mono samples of a file that may still grow: (past - first,), or fewer if it has not so many."""
    return np.fromfile(ref.path, "<i2", past - first, offset=(ref.pcm or 0) + 2 * first) * PCM_SCALE


@contextmanager
def create(path: str) -> Iterator[BinaryIO]:
    """A new file to write samples to. Raises JobError("storage_full") where there is no room for them, and then leaves
    no file. Use its `write`: numpy's `tofile` does not say why it failed."""
    with undoing_when_full(partial(Path(path).unlink, missing_ok=True)), create_private(path) as file:
        yield file


@contextmanager
def undoing_when_full(undo: Callable[[], object]) -> Iterator[None]:
    """While samples are written. Calls `undo` and raises JobError("storage_full") where there is no room for them."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        undo()
        raise JobError("storage_full", "There is no room left for the decoded audio; try again later.") from error


def write_all(file: FileIO, block: Samples) -> None:
    """To a file without a buffer, which may write a part of what there is. Raises OSError."""
    left = block.view(np.uint8).data
    while left:
        left = left[file.write(left) or 0 :]
