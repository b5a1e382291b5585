"""A real Chromium (Debian's package), driven by Playwright, for tests of the page and its screenshots."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PATH = shutil.which("chromium")

_MARK = "the-page-that-is-measured"

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


class Longest(NamedTuple):
    """What a user waits for a page at most: the longest task of its main thread, in seconds."""

    cpu: float  # on a machine that does nothing else
    wall: float  # while the machine did what it did


def longest_task(page: Page, act: Callable[[], None]) -> Longest:
    """While `act` uses the page, by the browser's own trace. Other pages are left out: the browser has some of its own,
    such as chrome://omnibox-popup, whose tasks are longer than ours."""
    browser = page.context.browser
    assert browser
    browser.start_tracing(page=page, categories=["toplevel", "blink.user_timing"])
    act()
    page.evaluate(f"performance.mark('{_MARK}')")
    events = json.loads(browser.stop_tracing())["traceEvents"]
    main = {(one["pid"], one["tid"]) for one in events if one["name"] == _MARK}
    tasks = [one for one in events if one["name"].endswith("RunTask") and (one["pid"], one["tid"]) in main]
    assert len(tasks) > 20, "this is no trace of a page that did something"
    return Longest(*(max(one.get(clock, 0) for one in tasks) / 1e6 for clock in ("tdur", "dur")))


def filled(page: Page, label: str, value: str) -> None:
    page.get_by_label(label, exact=True).fill(value)
