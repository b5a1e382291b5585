"""What a media file is by its first bytes, and how much audio its header promises. Names play no part."""

from __future__ import annotations

import os
from typing import BinaryIO

from workers.media.riff import read_header

HEAD = 64  # bytes that `sniff` wants to see

_MOST_CHUNKS = 65_536  # of an AIFF file, before COMM


def sniff(head: bytes) -> str | None:
    """The demuxer (by FFmpeg's name) that fits a file's first bytes; None: not a container that is served."""
    for name, at, magic in _MAGIC:
        if head.startswith(magic, at) and (name != "wav" or head[8:12] == b"WAVE"):
            return name
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _sniff_mpeg(head)
    return None


_MAGIC: tuple[tuple[str, int, bytes], ...] = (
    ("wav", 0, b"RIFF"),
    ("wav", 0, b"RF64"),
    ("wav", 0, b"BW64"),
    ("flac", 0, b"fLaC"),
    ("mp3", 0, b"ID3"),
    ("ogg", 0, b"OggS"),
    ("matroska", 0, b"\x1a\x45\xdf\xa3"),
    ("mov", 4, b"ftyp"),
    ("mov", 4, b"moov"),
    ("mov", 4, b"mdat"),
    ("mov", 4, b"wide"),
    ("aiff", 8, b"AIFF"),
    ("aiff", 8, b"AIFC"),
    ("amr", 0, b"#!AMR\n"),
    ("amr", 0, b"#!AMR-WB\n"),
)


def _sniff_mpeg(head: bytes) -> str | None:
    """After the frame sync: layer 0 is ADTS (AAC); version, bit rate and rate must not be reserved values."""
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    if layer == 0:
        return "aac" if head[1] & 0xF0 == 0xF0 and head[2] >> 2 & 0xF < 13 else None
    return "mp3" if version != 1 and head[2] >> 4 != 15 and head[2] >> 2 & 3 != 3 else None


def promised_seconds(file: BinaryIO, kind: str) -> float | None:
    """What the header of a WAV, AIFF or FLAC file says of its length; None where it says nothing, or
    no more than there is."""
    file.seek(0)
    if kind == "wav":
        return _wav_seconds(file)
    if kind == "aiff":
        return _aiff_seconds(file)
    if kind == "flac":
        return _flac_seconds(file)
    return None


def _wav_seconds(file: BinaryIO) -> float | None:
    header = read_header(file)
    if header is None or not header.byte_rate:
        return None
    there = file.seek(0, os.SEEK_END) - header.begin
    return header.size / header.byte_rate if header.size > there else None  # what is whole needs no promise


def _aiff_seconds(file: BinaryIO) -> float | None:
    """COMM: channels (2 bytes), frames (4), bits (2), sample rate (80-bit extended float)."""
    file.seek(12)
    for _ in range(_MOST_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            return None
        size = int.from_bytes(header[4:], "big")
        if header[:4] != b"COMM":
            file.seek(size + size % 2, 1)
            continue
        body = file.read(18)
        frames = int.from_bytes(body[2:6], "big")
        exponent, mantissa = int.from_bytes(body[8:10], "big"), int.from_bytes(body[10:18], "big")
        if len(body) < 18 or frames in (0, 2**32 - 1) or not mantissa or exponent > 16_383 + 63:
            return None
        return frames / (mantissa * 2.0 ** (exponent - 16_383 - 63) or 1.0)
    return None


def _flac_seconds(file: BinaryIO) -> float | None:
    """STREAMINFO comes first: from byte 18, rate (20 bits), channels (3), bits (5), samples (36)."""
    packed = int.from_bytes(file.read(26)[18:], "big")
    rate, samples = packed >> 44, packed & (2**36 - 1)
    return samples / rate if rate and samples else None
