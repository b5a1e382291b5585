"""A transcript of as many words as 4 h have, some 40,000, in a server's store, and its use on the page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from diarserve.tasks.store.protocol import NewTask
from diarserve.tasks.store.sqlite import SqliteStore
from diarserve.transcript.document import Document, Turn, encode
from tests.support.documents import document

if TYPE_CHECKING:
    from playwright.sync_api import Page

TASK = "f" * 32
_SEGMENTS = 3300


async def keep(data: Path) -> None:
    """In a new data directory."""
    data.mkdir(mode=0o700)
    said = _four_hours()
    store = await SqliteStore.open(data / "tasks.sqlite")
    await store.add([NewTask(said.task_id, said.filename, {}, "normal")])
    await store.claim({"normal": 1})
    await store.complete(said.task_id, 1, encode(said), audio_seconds=said.duration, processing_seconds=1)
    await store.close()


def _four_hours() -> Document:
    sentence = "I think that we should look at it again before the meeting"
    said = document(*[(sentence, f"SPEAKER_0{number % 4}") for number in range(_SEGMENTS)])
    turns = tuple(Turn(segment.start, segment.end, segment.speaker) for segment in said.segments)
    return msgspec.structs.replace(said, task_id=TASK, filename="hearing.wav", turns=turns)


class LongPage:
    """What a user does with a long transcript: an action at a time, each until the page shows it."""

    def __init__(self, page: Page, url: str) -> None:
        self._page = page
        self._url = url

    def open(self) -> None:
        self._page.goto(self._url)
        self._page.wait_for_selector(".transcript[data-complete]")

    def scroll(self) -> None:
        for place in range(0, 150_000, 10_000):
            self._page.locator(".scroll").evaluate(f"(list) => {{ list.scrollTop = {place}; }}")
            self._page.locator("article").nth(5).wait_for(state="attached")

    def search(self) -> None:
        self._page.get_by_label("Search the transcript").press_sequentially("the meeting")
        self._page.get_by_text(f"1 of {_SEGMENTS}").wait_for()

    def name_speaker(self) -> None:
        """It is a revision: the whole transcript comes anew."""
        self._page.get_by_label("Search the transcript").fill("")
        self._page.locator(".chip").first.click()
        name = f"Speaker {time.time_ns()}"
        self._page.get_by_label("Name", exact=True).fill(name)
        self._page.get_by_role("button", name="Save").click()
        self._page.locator(".chip", has_text=name).wait_for()

    def narrow(self) -> None:
        """The window, so that every segment gets another height."""
        self._page.set_viewport_size({"width": 800, "height": 800})
        self._page.locator("article").nth(5).wait_for(state="attached")

    def everything(self) -> None:
        for act in (self.open, self.scroll, self.search, self.narrow):
            act()
