"""What is read from a worker's channel, whatever bytes come: messages in their order, or the two errors that the server
is prepared for."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import msgpack

from workers.messages import (
    Alignment,
    AudioRef,
    BootFailed,
    Cancel,
    Decode,
    Diarization,
    Done,
    Failed,
    FromWorker,
    Progress,
    Ready,
    Report,
    Separation,
    Submit,
    Transcribe,
    Transcript,
    Turn,
    Word,
)
from workers.runtime import channel

property_test = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # for machines under load

NUMBERS = st.floats(allow_nan=False)
TEXTS = st.text(max_size=20)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)
MODELS = st.dictionaries(TEXTS, DATA, max_size=4)
AUDIO = st.builds(AudioRef, TEXTS, st.integers(0, 2**40), st.none() | st.integers(0, 2**40))
WARNINGS = st.lists(TEXTS, max_size=3).map(tuple)
TURNS = st.lists(st.builds(Turn, NUMBERS, NUMBERS, TEXTS), max_size=9).map(tuple)
SPOKEN = st.lists(st.builds(Word, TEXTS, NUMBERS, NUMBERS, NUMBERS), max_size=9).map(tuple)
RESULTS = (
    AUDIO
    | st.builds(Transcript, SPOKEN, TEXTS, TEXTS, WARNINGS)
    | st.builds(Diarization, TURNS, TEXTS, WARNINGS)
    | st.builds(Alignment, SPOKEN, TEXTS, WARNINGS)
    | st.builds(Separation, AUDIO, st.none() | TEXTS, WARNINGS)
)
KINDS = (Ready, BootFailed, Report, Progress, Done, Failed)
MESSAGES = (
    st.builds(Ready, MODELS, NUMBERS)
    | st.builds(BootFailed, TEXTS)
    | st.builds(Report, MODELS, WARNINGS)
    | st.builds(Progress, TEXTS, NUMBERS, st.lists(SPOKEN, max_size=3).map(tuple), SPOKEN)
    | st.builds(Done, TEXTS, RESULTS, NUMBERS, NUMBERS, st.booleans())
    | st.builds(Failed, TEXTS, st.sampled_from(["undecodable", "internal"]), TEXTS, st.booleans())
)


def read_all(pieces: Sequence[bytes]) -> tuple[list[FromWorker], type[Exception]]:
    """The messages in a stream that came in those pieces, and the error that ended it."""

    async def read() -> tuple[list[FromWorker], type[Exception]]:
        reader, messages = asyncio.StreamReader(), list[FromWorker]()
        for piece in pieces:
            reader.feed_data(piece)
        reader.feed_eof()
        try:
            while True:
                messages.append(await channel.read(reader))
        except (EOFError, channel.ProtocolError) as error:
            return messages, type(error)

    return asyncio.run(read())


@property_test
@given(st.lists(MESSAGES, max_size=5), st.lists(st.integers(0, 2000), max_size=5))
def test_messages_arrive_whole_and_in_order_however_they_are_cut(messages: list[FromWorker], cuts: list[int]) -> None:
    stream = b"".join(map(channel.pack, messages))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    assert read_all([piece for piece in pieces if piece]) == (messages, EOFError)


@property_test
@given(MESSAGES, st.integers(0, 10**6))
def test_a_frame_that_is_cut_off_is_the_end(message: FromWorker, cut: int) -> None:
    frame = channel.pack(message)
    assert read_all([frame, frame[: cut % len(frame)]]) == ([message], EOFError)


@property_test
@given(st.binary(max_size=300), st.booleans())
@example(b"\xff" * 8, False)
@example(msgpack.encode({"type": "Done"}), True)
def test_bytes_that_are_no_message_are_an_error_that_is_expected(data: bytes, framed: bool) -> None:
    stream = struct.pack("!I", len(data)) + data if framed else data
    messages, _ = read_all([stream])
    assert all(type(message) in KINDS for message in messages)


@property_test
@given(MESSAGES, st.integers(0, 10**6), st.integers(0, 7))
def test_a_bit_that_flips_is_another_message_or_an_error_that_is_expected(
    message: FromWorker, place: int, bit: int
) -> None:
    frame = bytearray(channel.pack(message))
    frame[place % len(frame)] ^= 1 << bit
    messages, _ = read_all([bytes(frame)])
    assert all(type(message) in KINDS for message in messages)


@property_test
@given(st.binary(max_size=300), st.booleans())
def test_a_worker_takes_a_message_or_ends_by_an_error_that_is_expected(data: bytes, framed: bool) -> None:
    ours, theirs = socket.socketpair()
    worker = channel.Channel(theirs)
    with ours:
        ours.sendall(struct.pack("!I", len(data)) + data if framed else data)
    try:
        worker.receive()
    except (EOFError, channel.ProtocolError):
        pass
    finally:
        worker.close()


@property_test
@given(
    st.builds(Submit, TEXTS, TEXTS, st.builds(Decode, TEXTS, TEXTS, NUMBERS), NUMBERS)
    | st.builds(Submit, TEXTS, TEXTS, st.builds(Transcribe, AUDIO, st.none() | TEXTS, prompt=TEXTS), NUMBERS)
    | st.builds(Cancel, TEXTS)
)
def test_a_worker_gets_what_the_server_sent(message: Submit | Cancel) -> None:
    ours, theirs = socket.socketpair()
    worker = channel.Channel(theirs)
    with ours:
        ours.sendall(channel.pack(message))
        assert worker.receive() == message
    worker.close()
