"""`make live`: real speech, played at real time into live sessions of a server on its embedded models.

Of every final word: how long after its end the client first saw it, and when it was final. Of the whole: the share of
words that the live transcript has otherwise than the offline one of the same audio, and how many words changed their
speaker by a correction. With --sessions several at once, each of other speech.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import jiwer
import psutil

from bench import results
from tests.support.recordings import speech
from tests.support.server import API, Server, running
from tests.support.text import plain
from workers.messages import SAMPLE_RATE

_FRAME = 0.1  # seconds of audio in a message
_SAME = 0.5  # seconds within which the same text in an interim result is the final word


@dataclass(slots=True)
class Shown:
    word: str
    start: float
    end: float
    speaker: str
    first: float  # seconds from the word's end to the first event that had it
    final: float  # and to the one that made it final


@dataclass(slots=True)
class Session:
    """What a client saw. Times of events are seconds from the session's first sample."""

    words: list[Shown] = field(default_factory=list)
    interim: list[tuple[float, str, float]] = field(default_factory=list)  # when, text, start: since the last final
    renamed: int = 0  # words, by corrections
    lag: float = 0.0  # the most that the server told
    document: dict[str, Any] = field(default_factory=dict)

    def see(self, event: dict[str, Any], now: float) -> None:
        match event["type"]:
            case "interim":
                self.interim += [(now, plain(word["word"]), word["start"]) for word in event["words"]]
            case "final":
                self.words += [self._shown(word, now) for word in event["words"]]
                last = self.words[-1].end
                self.interim = [seen for seen in self.interim if seen[2] > last - _SAME]
            case "correction":
                for word in self.words[event["first"] : event["past"]]:
                    self.renamed += word.speaker != event["speaker"]
                    word.speaker = event["speaker"]
            case "lag":
                self.lag = max(self.lag, event["seconds"])
            case "done":
                self.document = event["document"]
            case "error":
                raise RuntimeError(event["message"])

    def _shown(self, word: dict[str, Any], now: float) -> Shown:
        text, start, end = plain(word["word"]), word["start"], word["end"]
        seen = [when for when, other, at in self.interim if other == text and abs(at - start) <= _SAME]
        return Shown(text, start, end, word["speaker"], min([*seen, now]) - end, now - end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of audio, and so of time, for each number")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 2, 4], help="at once")
    asked = results.arguments(parser)
    rows, data = [], {}
    for number in asked.sessions:
        with running() as server:
            busy = _cpu_seconds(server)
            sessions = asyncio.run(play_several(server, number, asked.minutes * 60))
            cores = (_cpu_seconds(server) - busy) / (asked.minutes * 60)
        rows.append(_row(number, sessions, cores))
        data[str(number)] = rows[-1]
    head = ["sessions", "words", *_LATENCIES, "most lag", "words unlike offline", "renamed", "UNKNOWN", "cores"]
    body = (
        f"{asked.minutes:g} min of the open recordings, one after the other, in real time; seconds from a word's end, "
        "p50 / p95 / p99.\n\n" + results.table(head, rows)
    )
    results.publish("live", "Live audio", body, data, asked)


_LATENCIES = ("to first showing", "to final")


def _row(number: int, sessions: Sequence[Session], cores: float) -> list[object]:
    words = [word for session in sessions for word in session.words]
    latencies = (
        " / ".join(f"{results.percentile(values, share):.2f}" for share in (0.5, 0.95, 0.99))
        for values in ([word.first for word in words], [word.final for word in words])
    )
    unlike = statistics.mean(_unlike(session) for session in sessions)
    return [
        number,
        len(words),
        *latencies,
        f"{max(session.lag for session in sessions):.1f}",
        f"{unlike:.3f}",
        sum(session.renamed for session in sessions),
        sum(word.speaker == "UNKNOWN" for word in words),
        f"{cores:.2f}",
    ]


def _unlike(session: Session) -> float:
    """Word error rate against the offline transcript of the same audio."""
    offline = " ".join(plain(segment["text"]) for segment in session.document["segments"])
    return float(jiwer.wer(offline, " ".join(word.word for word in session.words)))


async def play_several(server: Server, number: int, seconds: float) -> list[Session]:
    """So many sessions at once, of different speech."""
    samples = speech(seconds + 37 * number)
    pcm = (samples.clip(-1, 1) * 32767).astype("<i2").tobytes()
    async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as group:
        running_ = []
        for session in range(number):
            begin = 37 * session * SAMPLE_RATE * 2
            part = pcm[begin : begin + round(seconds * SAMPLE_RATE) * 2]
            running_.append(group.create_task(play(client, server, part)))
    return [task.result() for task in running_]


async def play(
    client: aiohttp.ClientSession,
    server: Server,
    pcm: bytes,
    *,
    speed: float = 1.0,
    session: Session | None = None,
    until: str = "done",
) -> Session:
    """One session. speed: 1 is real time. session: to be filled. until: the type of the last event that matters; with
    another than `done` no document is made."""
    session = session or Session()
    keep = "true" if until == "done" else "false"
    async with client.ws_connect(f"{server.url}{API}/stream?keep={keep}", max_msg_size=0) as socket:
        began = time.monotonic()
        sending = asyncio.create_task(_send(socket, pcm, began, speed))
        async for message in socket:
            event = json.loads(message.data)
            session.see(event, time.monotonic() - began)
            if event["type"] == until:
                break
        await sending
    return session


async def _send(socket: aiohttp.ClientWebSocketResponse, pcm: bytes, began: float, speed: float) -> None:
    size = round(_FRAME * SAMPLE_RATE) * 2
    for count, start in enumerate(range(0, len(pcm), size), 1):
        await asyncio.sleep(max(0.0, began + count * _FRAME / speed - time.monotonic()))
        await socket.send_bytes(pcm[start : start + size])
    await socket.send_str('{"type": "finish"}')


def _cpu_seconds(server: Server) -> float:
    """Of the server and its workers."""
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    main()
