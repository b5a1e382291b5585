"""JSON of answers that grow with the recording."""

from __future__ import annotations

import msgspec

_PIECE = 500  # items of a list that are encoded in one call


def encode_in_pieces(answer: msgspec.Struct) -> bytes:
    """As JSON, its lists in pieces: a single call holds the interpreter's lock as long as it takes, in whichever thread
    it runs, and the event loop with it."""
    fields = {name: getattr(answer, name) for name in answer.__struct_fields__}
    return _encoder.encode({name: _pieces(value) for name, value in fields.items() if value is not msgspec.UNSET})


def _pieces(value: object) -> object:
    if not isinstance(value, list | tuple):
        return value
    pieces = (_encoder.encode(value[start : start + _PIECE])[1:-1] for start in range(0, len(value), _PIECE))
    return msgspec.Raw(b"[" + b",".join(pieces) + b"]")


_encoder = msgspec.json.Encoder()
