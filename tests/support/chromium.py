"""A real Chromium (Debian's package), driven by Playwright, for tests of the page and its screenshots."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PATH = shutil.which("chromium")

_FLAGS = (
    "--no-sandbox",  # as root there is none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",  # the microphone is allowed without asking
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)


@contextmanager
def chromium(microphone: Path | None = None) -> Iterator[Browser]:
    """microphone: a WAV file that is heard once, from the moment that the microphone is opened."""
    from playwright.sync_api import sync_playwright

    heard = [f"--use-file-for-fake-audio-capture={microphone}%noloop"] if microphone else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PATH, args=[*_FLAGS, *heard])
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """What pages of a context have asked for, and what they have complained about."""

    def __init__(self, context: BrowserContext) -> None:
        self.asked: list[str] = []
        self.complaints: list[str] = []
        context.on("request", lambda request: self.asked.append(request.url))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("console", lambda line: self.complaints.extend([line.text] if line.type == "error" else []))


def longest_task(trace: bytes) -> float:
    """Of a trace, the seconds of CPU time of the longest task of the pages' main threads: what a user waits for a page
    at most, on a machine that does nothing else."""
    events = json.loads(trace)["traceEvents"]
    main = {(one["pid"], one["tid"]) for one in events if (one.get("args") or {}).get("name") == "CrRendererMain"}
    tasks = [one for one in events if one["name"].endswith("RunTask") and (one["pid"], one["tid"]) in main]
    assert len(tasks) > 100, "this is no trace of a page that did something"
    return float(max(one.get("tdur", 0) for one in tasks)) / 1e6


def filled(page: Page, label: str, value: str) -> None:
    page.get_by_label(label, exact=True).fill(value)
