"""References of known speakers: short recordings, as files or as data URLs, beside the recordings of a form."""

from __future__ import annotations

import binascii
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from diarserve.core.errors import InvalidRequest, TooLarge
from diarserve.core.options import MAX_REFERENCES
from diarserve.core.settings import MIB
from diarserve.tasks.spool import REFERENCE

FIELD = "known_speaker_references"
_MOST_BYTES = 8 * MIB  # of one: 10 s of stereo at 96 kHz in float32 are 7.3 MiB
_LONGEST_HEAD = 1024  # bytes of a data URL before its data


class DataUrl:
    """Decodes a data URL (RFC 2397) in base64 as it comes. Raises InvalidRequest for what is none."""

    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._rest = b""  # base64 that makes no whole bytes yet

    def feed(self, chunk: bytes) -> bytes:
        if self._head is not None:
            self._head += chunk
            head, comma, chunk = self._head.partition(b",")
            if not comma:
                if len(self._head) > _LONGEST_HEAD:
                    raise self._wrong()
                return b""
            if not head.lower().startswith(b"data:") or not head.rstrip().lower().endswith(b";base64"):
                raise self._wrong()
            self._head = None
        text = self._rest + chunk.translate(None, b" \r\n")
        whole = len(text) // 4 * 4
        self._rest = text[whole:]
        return self._decoded(text[:whole])

    def close(self) -> None:
        """At its end."""
        if self._head or self._rest:
            raise self._wrong()

    def _decoded(self, text: bytes) -> bytes:
        try:
            return binascii.a2b_base64(text, strict_mode=True) if text else b""
        except binascii.Error as error:
            raise self._wrong() from error

    @staticmethod
    def _wrong() -> InvalidRequest:
        return InvalidRequest("A reference is a data URL, data:audio/wav;base64,..., or a file.", param=FIELD)


def check_number(number: int) -> str:
    """The name of the file of the reference with this number, from 0. Raises InvalidRequest."""
    if number >= MAX_REFERENCES:
        raise InvalidRequest(f"At most {MAX_REFERENCES} known speakers are told apart.", param=FIELD)
    return REFERENCE.format(number)


def check_size(size: int) -> None:
    """Raises TooLarge."""
    if size > _MOST_BYTES:
        raise TooLarge(f"A reference is larger than {_MOST_BYTES // MIB} MiB: send 2 to 10 s.", param=FIELD)


def attach(references: Sequence[Path], fields: Mapping[str, Sequence[str]], folders: Sequence[Path]) -> None:
    """Link the references into the folders of the recordings. Raises InvalidRequest where there are not as many names
    as references."""
    names = [name for field in ("known_speaker_names", "known_speaker_names[]") for name in fields.get(field, ())]
    if len([name for name in names if name]) != len(references):
        raise InvalidRequest(
            f"{len(references)} known_speaker_references were sent and {len(names)} known_speaker_names: "
            "each speaker needs both.",
            param=FIELD,
        )
    for folder in folders:
        for reference in references:
            os.link(reference, folder / reference.name)
