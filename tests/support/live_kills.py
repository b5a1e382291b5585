"""`make live-kills`: workers of both models are killed in the midst of live sessions on the embedded models. Every
session must end with its full transcript, and no word may be told twice.

Held of each session: no error; final words are numbered without a gap, and none begins before one that was told earlier
has ended; the document at the end, and so the audio that was kept, is that of a session without kills. Shown beside it,
for sessions without kills too: words of the document that no live word is near, and phrases that the live words say
again. The model does both by itself, more so where it has to catch up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import jiwer
import msgspec

from tests.support.recordings import speech
from tests.support.server import API, Server, running
from tests.support.text import plain
from tests.support.waiting import until
from workers.messages import SAMPLE_RATE

LANES = ("whisper", "embedded")
PIECE = 0.25  # seconds of audio in a message
NEAR = 1.0  # seconds within which a word of the document has a live one
BACK = 0.3  # seconds that a word may begin before the end of the one before it
AGAIN = 4.0  # seconds within which three words that are said again are told twice


@dataclass
class Heard:
    """What a client was told in one session."""

    words: list[dict[str, Any]] = field(default_factory=list)
    document: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def hear(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "final":
                if event["first"] != len(self.words):
                    self.wrong.append(f"word {event['first']} after {len(self.words)}")
                self.words += event["words"]
            case "correction":
                for word in self.words[event["first"] : event["past"]]:
                    word["speaker"] = event["speaker"]
            case "done":
                self.document = event["document"]
            case "error":
                self.wrong.append(f"error: {event['message']}")

    def judge(self, wanted: str | None) -> None:
        """wanted: the text of the document, where it is known."""
        if not self.document:
            self.wrong.append("no document")
            return
        for before, word in zip(self.words, self.words[1:], strict=False):
            if word["start"] < before["end"] - BACK:
                self.wrong.append(f"{word['word']} at {word['start']:.2f} s, after {before['end']:.2f} s")
        if wanted is not None and wanted != self.document["text"]:
            self.wrong.append("another document than without kills")

    @property
    def offline(self) -> list[dict[str, Any]]:
        return [word for segment in self.document["segments"] for word in segment["words"]]

    def passed_over(self) -> int:
        """Words of the document without a live one near them."""
        return sum(
            not any(one["start"] < word["end"] + NEAR and word["start"] - NEAR < one["end"] for one in self.words)
            for word in self.offline
        )

    def again(self) -> int:
        """Three words that the document does not say again at once."""
        return len(_said_again(self.words) - _said_again(self.offline))

    def unlike(self) -> float:
        """Word error rate against the document."""
        offline, live = (plain(" ".join(word["word"] for word in words)) for words in (self.offline, self.words))
        return float(jiwer.wer(offline, live))


def _said_again(words: Sequence[dict[str, Any]]) -> set[str]:
    """Three words that were said just before."""
    said: dict[str, float] = {}
    found = set()
    plained = [(plain(word["word"]), word["start"]) for word in words]
    for three in zip(plained, plained[1:], plained[2:], strict=False):
        text, start = " ".join(word for word, _ in three), three[0][1]
        if len({word for word, _ in three}) > 1 and start - said.get(text, -AGAIN) < AGAIN:
            found.add(text)
        said[text] = start
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="of workers, of each model in turn")
    parser.add_argument("--sessions", type=int, default=1, help="at once")
    parser.add_argument("--seconds", type=float, default=60.0, help="of audio in each")
    parser.add_argument("--speed", type=float, default=1.0, help="of playing; 1 is real time")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    started, rounds, killed = time.monotonic(), [], dict.fromkeys(LANES, 0)
    with running() as server:
        rounds.append(asyncio.run(_round(server, asked, [], killed, [])))
        _tell(0, [], rounds[0])
        wanted = [heard.document["text"] for heard in rounds[0]]
        left = [LANES[number % 2] for number in range(asked.kills)]
        while left:
            now, left = left[:6], left[6:]
            rounds.append(asyncio.run(_round(server, asked, now, killed, wanted)))
            _tell(len(rounds) - 1, now, rounds[-1])
    sessions = [heard for heards in rounds[1:] for heard in heards]
    wrong = sum(bool(heard.wrong) for heard in sessions)
    kills = ", ".join(f"{count} of {name}" for name, count in killed.items())
    print(
        f"\n{sum(killed.values())} kills ({kills}) in {len(sessions)} sessions of {asked.seconds:g} s, "
        f"{time.monotonic() - started:.0f} s: {len(sessions) - wrong} sessions whole, {wrong} not"
    )
    sys.exit(bool(wrong or any(heard.wrong for heard in rounds[0])))


def _tell(number: int, kills: Sequence[str], heards: Sequence[Heard]) -> None:
    for at, heard in enumerate(heards):
        row = f"round {number}, session {at}, {len(kills)} kills: {len(heard.words)} words"
        if heard.document:
            row += f", {len(heard.offline)} offline, {heard.unlike():.3f} unlike, {heard.passed_over()} passed over"
            row += f", {heard.again()} phrases again"
        print(f"{row}: {'; '.join(heard.wrong) or 'whole'}", flush=True)


async def _round(
    server: Server, asked: argparse.Namespace, kills: Sequence[str], killed: dict[str, int], wanted: Sequence[str]
) -> list[Heard]:
    """wanted: the text of each session's document, where it is known."""
    chance = random.Random(f"{asked.seed} {sum(killed.values())}")
    samples = speech(asked.seconds + 37 * asked.sessions)
    pcm = (samples.clip(-1, 1) * 32767).astype("<i2").tobytes()
    size = round(asked.seconds * SAMPLE_RATE) * 2
    parts = [pcm[at : at + size] for at in range(0, 37 * asked.sessions * SAMPLE_RATE * 2, 37 * SAMPLE_RATE * 2)]
    heards = [Heard() for _ in parts]
    async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as group:
        playing = [
            group.create_task(_play(client, server, part, asked.speed, heard))
            for part, heard in zip(parts, heards, strict=True)
        ]
        whole = asked.seconds / asked.speed
        for lane in kills:
            await asyncio.sleep(whole / (len(kills) + 1) * chance.uniform(0.7, 1.2))
            if not all(task.done() for task in playing):
                await _kill(client, server, lane)
                killed[lane] += 1
    texts: Sequence[str | None] = wanted or [None] * len(heards)
    for heard, text in zip(heards, texts, strict=True):
        heard.judge(text)
    return heards


async def _play(client: aiohttp.ClientSession, server: Server, pcm: bytes, speed: float, heard: Heard) -> None:
    async with client.ws_connect(f"{server.url}{API}/stream?keep=false", max_msg_size=0) as socket:
        sending = asyncio.create_task(_send(socket, pcm, speed))
        async for message in socket:
            heard.hear(msgspec.json.decode(message.data))
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send(socket: aiohttp.ClientWebSocketResponse, pcm: bytes, speed: float) -> None:
    began, size = time.monotonic(), round(PIECE * SAMPLE_RATE) * 2
    for count, start in enumerate(range(0, len(pcm), size), 1):
        await asyncio.sleep(max(0.0, began + count * PIECE / speed - time.monotonic()))
        await socket.send_bytes(pcm[start : start + size])
    await socket.send_str('{"type": "finish"}')


async def _kill(client: aiohttp.ClientSession, server: Server, lane: str) -> None:
    """Its worker, once it is up."""
    found: list[int] = []

    async def up() -> bool:
        async with client.get(f"{server.url}/stats") as answer:
            stats = await answer.json()
        found[:] = [worker["pid"] for worker in stats["lanes"][lane]["workers"] if worker["pid"]]
        return bool(found)

    await until(up, pause=0.1)
    os.kill(found[0], signal.SIGKILL)


if __name__ == "__main__":
    main()
