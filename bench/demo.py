"""`make demo`: the embedded default on a real telephone call."""

from __future__ import annotations

import requests

from diarserve.transcript.document import decode
from diarserve.transcript.formats import text
from tests.support.recordings import sample
from tests.support.server import running


def main() -> None:
    path = sample()
    print("Starting diarserve on its embedded models …")
    with running() as server:
        print(f"alive after {server.alive_after:.1f} s, ready after {server.ready_after:.1f} s\n")
        print(f"$ curl -F file=@{path.name} {server.url}/api/v1/parallel/transcribe\n")
        with path.open("rb") as file:
            answer = requests.post(f"{server.url}/api/v1/parallel/transcribe", files={"file": file}, timeout=300)
        answer.raise_for_status()
        document = decode(answer.content)
    print(text(document))
    timings = document.performance
    print(f"{document.duration:.1f} s of audio in {timings.processing_time:.2f} s")
    for name, seconds in (
        ("decode", timings.decode_time),
        ("transcription", timings.transcription_time),
        ("diarization", timings.diarization_time),
        ("alignment", timings.alignment_time),
    ):
        print(f"  {name:<15}{seconds:6.2f} s")
    print(f"  both models at once: {timings.speedup_estimate:.2f} times one after the other")


if __name__ == "__main__":
    main()
