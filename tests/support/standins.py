"""Engines without models, for tests of the machinery. They run in real worker processes.

They obey the first line of the uploaded samples: `order kill whisper` makes the whisper worker kill itself, and
so on. See StandIn.step.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import struct
import sys
import threading
import time
import warnings
from collections.abc import Generator, Hashable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from workers.engine import Await, Emit, Engine, JobError, JobSteps, LiveSteps, StepOutputs, WorkItem
from workers.messages import (
    SAMPLE_RATE,
    Align,
    Alignment,
    AudioRef,
    Decode,
    DetectLanguage,
    Diarization,
    Diarize,
    Embed,
    Embeddings,
    LiveRequest,
    Request,
    Separate,
    Separation,
    Spoken,
    Transcribe,
    Transcript,
    Turn,
    Voice,
    Word,
)
from workers.messages.live import Append, LiveEnd, LiveTurns, LiveWords


class StandIn(Engine):
    """One item of work for every second of audio."""

    def __init__(
        self,
        step_seconds: float = 0.0,
        boot: str = "",
        batch: int = 1,
        limits: Mapping[str, Any] | None = None,
        gate: str = "",
    ) -> None:
        """`gate`: a file; no step ends while it is there. `boot`: "fail", "die", or "die while FILE" is there."""
        if boot == "fail":
            raise RuntimeError("no such model")
        if boot.startswith("die while ") and Path(boot.removeprefix("die while ")).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if boot == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if boot == "hang":
            time.sleep(3600)
        self.step_seconds = step_seconds
        self.gate = Path(gate) if gate else None
        self.items, self.limits = batch, limits or {}

    def describe(self) -> Mapping[str, Any]:
        return {"model": "stand-in", "device": "cpu", **self.limits}

    def batch(self, key: Hashable) -> int:
        return self.items

    def run(self, items: Sequence[WorkItem]) -> Generator[None, None, Sequence[Any]]:
        outputs = []
        for item in items:
            order = item.payload[0] / "order"
            while order.exists() and order.read_text() == f"endless {self.kind}":
                self.step(item.payload)
                time.sleep(0.01)
                yield
            outputs.append(self.step(item.payload))
        return outputs

    def fallback(self, items: Sequence[WorkItem]) -> StepOutputs | None:
        folder = items[0].payload[0]
        if (folder / "order").read_text() == f"full-for-ever {self.kind}":
            return None
        with (folder / f"{self.kind}-fallback").open("a") as log:
            log.write(f"{[item.payload[1] for item in items]}\n")
        return [self.output(item.payload) for item in items]

    def step(self, payload: Any) -> Any:
        folder, number = payload
        order = folder / "order"
        match order.read_text().split() if order.exists() else []:
            case ["kill", self.kind]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["kill-once", self.kind]:
                order.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            case ["kill-at", at, *later] if number == int(at):
                order.write_text(" ".join(["kill-at", *later]) if later else "")
                os.kill(os.getpid(), signal.SIGKILL)
            case ["kill-once-at", at, self.kind] if number == int(at):  # once the test has made the file "go"
                order.unlink()
                while not (folder / "go").exists():
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGKILL)
            case ["abort", self.kind]:
                os.abort()
            case ["segfault", self.kind]:
                ctypes.string_at(0)
            case ["devour", self.kind]:  # memory, until the worker's limit refuses more
                pieces = []
                while True:
                    pieces.append(bytearray(2**26))
            case ["stop-once", self.kind]:
                order.unlink()
                # To this thread: one sent to the process may stop another first, while this one finishes its step.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
            case ["hang-once", self.kind]:
                order.unlink()
                time.sleep(3600)
            case ["block-once", self.kind]:
                order.unlink()
                while not (folder / "go").exists():
                    time.sleep(0.01)
            case ["babble-once", self.kind]:
                order.unlink()
                os.write(_channel(), (folder / "babble").read_bytes())
            case ["noise", self.kind]:  # as libraries make it
                print("printed")
                os.write(2, b"written by C \x1b[2J\xff\n")
                warnings.warn("warned of", UserWarning, stacklevel=1)
                thread = threading.Thread(target=lambda: 1 / 0)
                thread.start()
                thread.join()
            case ["exit-once", self.kind]:
                order.unlink()
                sys.exit(3)
            case ["full" | "full-for-ever", self.kind] if number == 1:
                raise RuntimeError("CUDA failed with error out of memory")
            case ["broken-once", self.kind]:
                order.unlink()
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            case ["raise", self.kind]:
                raise RuntimeError("/secret/path: the model broke")
            case ["storage-full-once", self.kind] if not (folder / "was-full").exists():  # its task is decoded again
                (folder / "was-full").touch()
                raise JobError("storage_full", "There is no room left.")
            case ["refuse", self.kind]:
                raise JobError("undecodable", "This recording cannot be decoded.")
        while self.gate and self.gate.exists():
            time.sleep(0.01)
        time.sleep(self.step_seconds)
        with (folder / f"{self.kind}-steps").open("a") as log:
            log.write(f"{number} {time.monotonic()}\n")
        return self.output(payload)

    def output(self, payload: Any) -> Any:
        return payload[1]

    kind = ""


class Whisper(StandIn):
    kind = "whisper"

    def describe(self) -> Mapping[str, Any]:
        return {**super().describe(), "live": True}

    def live(self, request: LiveRequest) -> LiveSteps:
        """A word for every second, of the value of its first sample; 0 is silence, which ends an utterance. The order
        `kill-at 3 7` has the worker kill itself once each time it comes to these seconds."""
        audio, position = request.audio, int(request.resume or 0)
        folder = Path(audio.path).parent
        while True:
            more: Append = yield Await(position + SAMPLE_RATE)
            last = more.samples if more.flush or more.end else more.samples - more.samples % SAMPLE_RATE
            while position < last:
                number, past = position // SAMPLE_RATE, min(position - position % SAMPLE_RATE + SAMPLE_RATE, last)
                yield Emit(
                    LiveWords((), (Word(" perhaps", float(number), float(number), 0.1),), state=b"%d" % position)
                )
                yield [WorkItem("listen", (folder, number))]
                [value] = _values(audio, number, number + 1)
                words = (Word(f" w{value}", number + 0.1, number + 0.9, 1.0),) if value else ()
                ended = None if words else float(number)
                position = past
                yield Emit(LiveWords(words, (), past / SAMPLE_RATE, ended, state=b"%d" % past))
            if more.flush:
                yield Emit(LiveWords((), (), position / SAMPLE_RATE, flushed=True, state=b"%d" % position))
            if more.end:
                return LiveEnd("stand-in")

    def job(self, request: Request) -> JobSteps:
        if isinstance(request, DetectLanguage):
            yield _items(request.audio)
            return Spoken("de", 0.75, "stand-in")
        assert isinstance(request, Transcribe)
        heard = yield _items(request.audio, partial=True)
        return Transcript(tuple(chain.from_iterable(heard)), request.language or "en", "stand-in")

    def output(self, payload: Any) -> tuple[Word, ...]:
        number = payload[1]
        return (Word(f" w{number}", number + 0.1, number + 0.9, 1.0),)  # shown while the job runs, as Whisper's are


class Parrot(Whisper):
    """Says what it was asked for: the options, each a word."""

    def job(self, request: Request) -> JobSteps:
        assert isinstance(request, Transcribe)
        yield _items(request.audio)
        names = ("language", "model", "prompt", "hotwords", "beam", "temperature")
        asked = enumerate(f"{name}={getattr(request, name)}" for name in names)
        return Transcript(tuple(Word(f" {said}", n / 10, n / 10 + 0.1, 1.0) for n, said in asked), "en", "stand-in")


class Diarizer(StandIn):
    kind = "embedded"

    def describe(self) -> Mapping[str, Any]:
        return {**super().describe(), "live": True}

    def live(self, request: LiveRequest) -> LiveSteps:
        """A turn for every second, whose speaker is the last digit of its first sample; of values from 100 on, this is
        known when the second after it is heard, and until then it is SPEAKER_09."""
        audio, number = request.audio, int(request.resume or 0)
        while True:
            more: Append = yield Await((number + 1) * SAMPLE_RATE)
            last = -(-more.samples // SAMPLE_RATE) if more.end else more.samples // SAMPLE_RATE
            while number < last:
                yield [WorkItem("follow", (Path(audio.path).parent, number))]
                values = _values(audio, max(number - 1, 0), number + 1)
                number += 1
                turns = [
                    Turn(
                        float(second),
                        second + 1.0,
                        "SPEAKER_09" if value >= 100 and second == number - 1 else f"SPEAKER_0{value % 10}",
                    )
                    for second, value in enumerate(values, number - len(values))
                    if value
                ]
                since = float(number - len(values))
                yield Emit(LiveTurns(tuple(turns), since, float(number), b"%d" % number))
            if more.end:
                return LiveEnd("stand-in")

    def job(self, request: Request) -> JobSteps:
        if isinstance(request, Embed):
            return (yield from self.embed(request))
        assert isinstance(request, Diarize)
        numbers = yield _items(request.audio)
        turns = tuple(Turn(float(number), number + 1.0, f"SPEAKER_0{number % 2}") for number in numbers)
        return Diarization(turns, str(self.describe()["model"]))

    def embed(self, request: Embed) -> JobSteps:
        """Samples that begin `voices 1,0 0,1` and a new line have speakers of these voices, with `clipped` in it all of
        them clipped. A recording with turns has two, (1, 0) and (0, 1)."""
        yield _items(request.audio)
        line = Path(request.audio.path).read_bytes()[:200].partition(b"\n")[0].decode("latin-1")
        said = line.split()[1:] if line.startswith("voices ") else ["1,0", "0,1"]
        vectors = [tuple(map(float, word.split(","))) for word in said if word != "clipped"]
        voices = tuple(
            Voice(
                f"SPEAKER_{number:02d}", struct.pack(f"<{len(vector)}f", *vector), request.audio.duration / len(vectors)
            )
            for number, vector in enumerate(vectors)
        )
        return Embeddings(voices, str(self.limits.get("embeddings", "stand-in")), float("clipped" in said))


class Aligner(StandIn):
    """Moves every word to the middle of its second."""

    kind = "align"

    def job(self, request: Request) -> JobSteps:
        assert isinstance(request, Align)
        yield _items(request.audio)
        words = tuple(replace(word, start=word.start + 0.3, end=word.end - 0.3) for word in request.words)
        return Alignment(words, f"stand-in for {request.language}")


class Separator(StandIn):
    kind = "separate"

    def job(self, request: Request) -> JobSteps:
        assert isinstance(request, Separate)
        yield _items(request.audio)
        Path(request.target).write_bytes(Path(request.audio.path).read_bytes())
        return Separation(AudioRef(request.target, request.audio.samples), "stand-in")


class Copier(StandIn):
    """Decodes nothing: 16-bit samples after a 44-byte WAV header, one second for every 32,000 bytes."""

    kind = "decode"

    def job(self, request: Request) -> JobSteps:
        assert isinstance(request, Decode)
        yield [WorkItem("copy", (Path(request.source).parent, 0))]
        data = Path(request.source).read_bytes()[44:]
        if data.startswith(b"order "):
            order = data.partition(b"\n")[0].removeprefix(b"order ")
            (Path(request.source).parent / "order").write_bytes(order)
        Path(request.target).write_bytes(data * 2)
        return AudioRef(request.target, len(data) // 2)


class Liar(Engine):
    """Answers with samples of a file that is not its job's."""

    def __init__(self, names: str) -> None:
        self._names = names

    def describe(self) -> Mapping[str, Any]:
        return {"model": "liar", "device": "cpu"}

    def job(self, request: Request) -> JobSteps:
        yield [WorkItem("lie", None)]
        return AudioRef(self._names, 10)

    def run(self, items: Sequence[WorkItem]) -> Sequence[Any]:
        return list(items)


def _channel() -> int:
    """The descriptor of this process's end."""
    for number in range(3, 256):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as found:
            if found.type == socket.SOCK_STREAM:
                return number
    raise AssertionError("there is no channel")


def _values(audio: AudioRef, first: int, past: int) -> list[int]:
    """The first sample of each second."""
    with open(audio.path, "rb") as file:
        file.seek((audio.pcm or 0) + 2 * SAMPLE_RATE * first)
        data = file.read(2 * SAMPLE_RATE * (past - first))
    return [
        value for second in range(0, len(data), 2 * SAMPLE_RATE) for value in struct.unpack_from("<h", data, second)
    ]


def _items(audio: AudioRef, *, partial: bool = False) -> list[WorkItem]:
    folder = Path(audio.path).parent
    return [WorkItem("step", (folder, number), partial=partial) for number in range(max(1, round(audio.duration)))]
