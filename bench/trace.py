"""`make trace`: one request on the embedded models, as the trace that a collector gets of it (docs/tracing.md)."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from tests.support.collector import as_text, collecting
from tests.support.recordings import sample
from tests.support.server import API, running

TRACE = "0af7651916cd43dd8448eb211c80319c"  # that the client begins, as one with traces of its own would
HEADERS = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recording", type=Path, default=sample())
    asked = parser.parse_args()
    with collecting() as collector:
        environment = {"DIARSERVE_TRACING_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with running(environment) as server:
            server.transcribe(asked.recording)  # warm
            with asked.recording.open("rb") as file:
                url = f"{server.url}{API}/transcribe"
                requests.post(url, files={"file": file}, headers=HEADERS, timeout=7200).raise_for_status()
            deadline = time.monotonic() + 30
            while not any(span.kind == "server" for span in collector.of(TRACE)) and time.monotonic() < deadline:
                time.sleep(0.05)
    spans = collector.of(TRACE)
    print(as_text(spans))
    one, other = (next(span for span in spans if span.name == name) for name in ("transcribe", "diarize"))
    shared = min(one.end, other.end) - max(one.start, other.start)
    print(f"\ntranscribe took {one.end - one.start:.2f} s, diarize {other.end - other.start:.2f} s; ", end="")
    print(f"both ran at the same time for {shared:.2f} s.")
    for span in (one, other):
        print(f"\n{span.name}: {listed(span.attributes)}")
        for name, at, about in span.events[:12]:
            print(f"  {1e3 * (at - spans[0].start):7.1f} ms  {name}: {listed(about)}")
    if shared <= 0:
        raise SystemExit("the models did not overlap")


def listed(attributes: Mapping[str, Any]) -> str:
    shown = ((name, f"{value:.3f}" if isinstance(value, float) else value) for name, value in attributes.items())
    return ", ".join(f"{name} {value}" for name, value in shown)


if __name__ == "__main__":
    main()
