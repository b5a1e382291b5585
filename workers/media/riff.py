"""The header of a WAV file: which sound it promises, and where its samples begin and end.

RIFF/WAVE as in Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" and EBU Tech 3306 (RF64).
Not stdlib's `wave`: on a damaged header it raises RuntimeError and others that it does not document.

Recorders that are cut off, or write to a pipe, leave sizes in the header that are wrong. The samples are then all that
follows; only a header whose sizes agree with each other is believed when it promises more, or less, than there is.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

PCM = 1  # WAVE_FORMAT_PCM

_MOST_CHUNKS = 65_536  # before the samples
_FORMAT = struct.Struct("<HHIIHH")
_UNKNOWN = 2**32 - 1  # RF64: the size is in the chunk `ds64`
# Sizes that a recorder writes before it knows the length: 0, and these or nearly so.
_PLACEHOLDERS, _NEAR = (2**31, 2**32), 65_536
_SEARCHED = 2**20  # bytes in which samples are looked for where the chunks before them have wrong sizes


@dataclass(frozen=True, slots=True)
class WavHeader:
    form: bytes  # the body of the chunk `fmt `, or its first 64 bytes
    begin: int  # the byte of the file at which its samples begin
    size: int  # bytes of samples: those that are there, or more where the header can be believed that there were more
    regular: bool  # whether one who follows the sizes in the header finds these samples

    tag: int  # of the sample format: 1 is PCM
    channels: int
    rate: int  # Hz
    byte_rate: int  # bytes per second
    frame: int  # bytes of one sample in all channels
    bits: int  # per sample


@dataclass(slots=True)
class _Claims:
    """What the header says. All in bytes."""

    whole: int  # the file, but for the first 8
    form: bytes = b""
    begin: int = 0
    data: int = 0
    ambiguous: bool = False  # readers differ in which size they take


def read_header(file: BinaryIO) -> WavHeader | None:
    """What stands before the samples of a RIFF, RF64 or BW64 file; None where there is no such header. Any bytes may be
    given: no value is checked for sense."""
    end = file.seek(0, os.SEEK_END)
    claims = _walk(file)
    found = claims or _search(file)
    if found is None or len(found.form) < _FORMAT.size:
        return None
    size = _believable(file, found, end)
    followed = found.data if 0 < found.data < end - found.begin else end - found.begin
    regular = claims is not None and not found.ambiguous and followed == min(size, end - found.begin)
    return WavHeader(found.form, found.begin, size, regular, *_FORMAT.unpack_from(found.form))


def _walk(file: BinaryIO) -> _Claims | None:
    """From chunk to chunk, by their sizes."""
    file.seek(0)
    head = file.read(12)
    claims = _Claims(whole=int.from_bytes(head[4:8], "little"))
    long_size: int | None = None
    for _ in range(_MOST_CHUNKS):
        chunk = file.read(8)
        if len(chunk) < 8:
            return None
        name, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if name == b"data":
            claims.begin = file.tell()
            claims.data = long_size if size == _UNKNOWN and long_size else size
            claims.ambiguous = head[:4] != b"RIFF" and not (claims.data == long_size and 0 < claims.data < 2**62)
            return claims if claims.form else None
        body = file.read(min(size, 64))
        if name == b"fmt ":
            claims.form = body
        elif name == b"ds64":
            claims.whole, long_size = (int.from_bytes(body[at : at + 8], "little") for at in (0, 8))
        file.seek(size - len(body) + size % 2, os.SEEK_CUR)
    return None


def _search(file: BinaryIO) -> _Claims | None:
    """By the names of the chunks, where a size that is wrong leads past them."""
    file.seek(0)
    head = file.read(_SEARCHED)
    form = head.find(b"fmt ", 12)
    data = head.find(b"data", form + 8 + _FORMAT.size)
    if form < 0 or data < 0:
        return None
    whole, form_size, data_size = (int.from_bytes(head[at + 4 : at + 8], "little") for at in (0, form, data))
    body = head[form + 8 : min(form + 8 + min(form_size, 64), data)]
    return _Claims(whole, body, data + 8, data_size)


def _believable(file: BinaryIO, claims: _Claims, end: int) -> int:
    """The bytes of samples that are there, unless the header is right to say that there are or were others."""
    there = end - claims.begin
    if _is_placeholder(claims.data):
        return there
    if claims.data >= there:
        return claims.data if claims.whole >= claims.data and not _is_placeholder(claims.whole) else there
    stop = claims.begin + claims.data
    agree = abs(claims.whole + 8 - stop) <= 1  # one of them counts the byte that makes the length even
    return claims.data if agree or _chunk_at(file, stop + claims.data % 2, end) else there


def _is_placeholder(size: int) -> bool:
    return size == 0 or any(abs(size - placeholder) < _NEAR for placeholder in _PLACEHOLDERS)


def _chunk_at(file: BinaryIO, place: int, end: int) -> bool:
    """Whether a chunk begins there, or nothing that could be one."""
    file.seek(place)
    head = file.read(8)
    return len(head) < 8 or (
        all(0x20 <= byte < 0x7F for byte in head[:4]) and int.from_bytes(head[4:], "little") <= end - place - 8
    )
