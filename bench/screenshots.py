"""Pictures of the page for docs/screenshots, of a server on the embedded models: desktop, phone, dark, live, operator.

python -m bench.screenshots [FOLDER]
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from tests.support import chromium, recordings
from tests.support.paths import REPOSITORY
from tests.support.server import Server, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_LARGEST = 200_000  # bytes of a picture
_DESKTOP = {"width": 1280, "height": 800}
_PHONE = {"width": 390, "height": 844}


def take(folder: Path) -> None:
    sample = recordings.sample()
    with tempfile.TemporaryDirectory() as scratch, running() as server:
        heard = recordings.excerpt(sample, 6.5, 24, Path(scratch, "heard.wav"))
        long = Path(scratch, "interview.wav")
        recordings.write_wav(long, recordings.speech(300))
        with chromium.chromium(microphone=heard) as browser:
            task = _desktop(browser, server, sample, folder)
            _shown(_open(browser, viewport=_DESKTOP, color_scheme="dark"), server, task, sample, folder / "dark.png")
            phone = _open(browser, viewport=_PHONE, device_scale_factor=2, has_touch=True)
            _shown(phone, server, task, sample, folder / "phone.png")
            _live(browser, server, folder)
            _operator(browser, server, long, folder)


def _open(browser: Browser, **options: Any) -> Page:
    return browser.new_context(**options).new_page()


def _desktop(browser: Browser, server: Server, sample: Path, folder: Path) -> str:
    """Returns the task."""
    page = _open(browser, viewport=_DESKTOP)
    page.goto(server.url)
    page.set_input_files("#files", sample)
    page.wait_for_selector(".transcript[data-complete]")
    for old, new in (("SPEAKER_00", "Diane"), ("SPEAKER_01", "Sheila")):
        page.locator(".chip", has_text=old).click()
        chromium.filled(page, "Name", new)
        page.get_by_role("button", name="Save").click()
        page.locator(".chip", has_text=new).wait_for()
    task = page.url.rpartition("/")[2]
    _shown(page, server, task, sample, folder / "desktop.png")
    page.get_by_role("button", name=re.compile("Edit what Diane")).nth(2).click()
    _save(page, folder / "edit.png")
    return task


def _shown(page: Page, server: Server, task: str, sample: Path, file: Path) -> None:
    page.goto(f"{server.url}/#/task/{task}")
    page.wait_for_selector(".transcript[data-complete]")
    page.set_input_files("#recording", sample)
    page.wait_for_timeout(800)
    page.locator("[data-w='18']").click()
    page.wait_for_timeout(400)
    page.get_by_role("button", name="Pause").click()
    page.mouse.move(5, 790)
    _save(page, file)


def _live(browser: Browser, server: Server, folder: Path) -> None:
    page = _open(browser, viewport=_DESKTOP)
    page.goto(f"{server.url}/#/live")
    page.get_by_role("button", name="Start").click()
    page.locator(".so-far b", has_text="SPEAKER_01").first.wait_for()
    page.wait_for_timeout(5000)
    _save(page, folder / "live.png")
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".transcript[data-complete]")


def _operator(browser: Browser, server: Server, long: Path, folder: Path) -> None:
    page = _open(browser, viewport={"width": 1280, "height": 900})
    page.goto(f"{server.url}/status")
    page.wait_for_timeout(4000)
    sender = _open(browser)
    sender.goto(server.url)
    sender.set_input_files("#files", [long] * 3)
    page.get_by_text("Both at work").wait_for()
    page.wait_for_timeout(12_000)
    _save(page, folder / "operator.png")
    sender.locator(".tasks a").first.click()
    sender.locator(".so-far p").first.wait_for(timeout=200_000)
    sender.set_viewport_size({"width": 1280, "height": 800})
    _save(sender, folder / "progress.png")


def _save(page: Page, file: Path) -> None:
    """As a PNG of few colours."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for colours in (256, 128, 64):
        picture.quantize(colours).save(file, optimize=True)
        if file.stat().st_size < _LARGEST:
            return


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "docs" / "screenshots"
    target.mkdir(parents=True, exist_ok=True)
    take(target)
