"""The page, in a real Chromium."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.support import chromium, long_page, nginx
from tests.support.app import stand_ins, wav
from tests.support.recordings import excerpt
from tests.support.server import Server
from tests.support.serving import serving
from tests.support.voices import speaking

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, WebSocketRoute

pytestmark = pytest.mark.skipif(chromium.PATH is None, reason="needs Debian's package chromium")

KEYS = {name: f"dsk_{letter * 43}" for name, letter in (("ann", "a"), ("bob", "b"))}

NewPage = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    heard = excerpt(sample, 6.5, 14.5, tmp_path_factory.mktemp("heard") / "heard.wav")
    with chromium.chromium(microphone=heard) as started:
        yield started


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file; while it is there `url` writes no words."""
    return tmp_path_factory.mktemp("gate") / "gate"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, gate: Path) -> Iterator[str]:
    """A server on stand-ins without keys, which holds a transcript of as many words as 4 h have, some 40,000."""
    folder = tmp_path_factory.mktemp("page")
    with ThreadPoolExecutor(1) as pool:  # this one has Playwright's event loop
        pool.submit(asyncio.run, long_page.keep(folder / "data")).result()
    with serving(stand_ins(folder, whisper={"gate": str(gate)})) as address:
        yield address


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """Pages, each in a context of its own. What they ask must be of one host, and none may complain."""
    contexts: list[tuple[BrowserContext, chromium.Watched]] = []

    def make(**options: Any) -> Page:
        context = browser.new_context(viewport=options.pop("viewport", {"width": 1200, "height": 800}), **options)
        contexts.append((context, chromium.Watched(context)))
        return context.new_page()

    yield make
    for context, watched in contexts:
        context.close()
        assert len({urlsplit(asked).netloc for asked in watched.asked if not asked.startswith("blob:")}) <= 1
        assert [line for line in watched.complaints if not line.startswith("Failed to load resource")] == []


def test_a_recording_becomes_a_transcript_with_names_and_a_file(
    new_page: NewPage, server: Server, sample: Path, tmp_path: Path
) -> None:
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto(server.url)
    page.get_by_text("Options").click()
    chromium.filled(page, "Speakers", "2")
    page.set_input_files("#files", sample)
    page.wait_for_selector(".transcript[data-complete]")
    assert page.locator(".chip").all_inner_texts() == ["SPEAKER_00", "SPEAKER_01"]
    assert page.locator("[data-w]").count() > 50
    # A click plays the word, which is marked.
    word = page.locator("[data-w='30']")
    word.click()
    page.locator(".now").wait_for()
    page.get_by_role("button", name="Pause").click()
    # Names, text, and words of another speaker.
    page.locator(".chip", has_text="SPEAKER_00").click()
    chromium.filled(page, "Name", "Diane")
    page.get_by_role("button", name="Save").click()
    page.locator(".chip", has_text="Diane").wait_for()
    page.get_by_role("button", name=re.compile("Edit what Diane")).first.click()
    chromium.filled(page, "Text", "Good morning.")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("morning.").wait_for()
    page.get_by_role("button", name=re.compile("Edit what Diane")).first.click()
    page.get_by_label("Said by").select_option("SPEAKER_01")
    page.get_by_role("button", name="Save").click()
    page.locator(".segment >> nth=0", has=page.get_by_role("button", name="SPEAKER_01", exact=True)).wait_for()
    srt = _download(page, "srt")
    assert "SPEAKER_01: Good morning." in srt
    assert "Diane: " in srt
    page.get_by_role("button", name="Undo the last change").click()
    page.locator(".segment >> nth=0", has=page.get_by_role("button", name="Diane", exact=True)).wait_for()
    assert "Diane: Good morning." in _download(page, "text").replace("]", "")
    # The clipboard and paper get all of it.
    page.get_by_role("button", name="Copy the transcript").click()
    page.get_by_text("is on the clipboard").wait_for()
    assert "Diane: Good morning." in page.evaluate("navigator.clipboard.readText()")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert "Diane: Good morning." in (page.locator(".print").text_content() or "")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    # It is the server's, so a reload keeps it.
    page.reload()
    page.wait_for_selector(".transcript[data-complete]")
    assert "Good morning." in page.locator(".segment").first.inner_text()
    page.get_by_text("Choose the recording to listen").wait_for()
    page.locator(".tasks a").first.wait_for()
    # A menu closes by itself: when it has done its work, by a click elsewhere, by Escape.
    more, delete = page.locator("summary", has_text="⋯"), page.get_by_role("button", name="Delete")
    more.click()
    page.get_by_role("button", name="Keys and marks").click()
    page.get_by_role("dialog").get_by_text("somebody else speaks too").wait_for()
    page.keyboard.press("Escape")
    delete.wait_for(state="hidden")
    more.click()
    page.locator(".legend").click(position={"x": 500, "y": 5})
    delete.wait_for(state="hidden")
    more.click()
    page.keyboard.press("Escape")
    delete.wait_for(state="hidden")
    more.click()
    delete.click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("heading", name="Who said what").wait_for()


def _download(page: Page, format: str) -> str:
    page.locator("summary", has_text="Download").click()
    with page.expect_download() as started:
        page.locator(f"[data-format={format}]").click()
    assert started.value.suggested_filename.startswith("sample.")
    return Path(started.value.path()).read_text()


def test_what_is_said_is_shown_while_it_is_said_and_kept(new_page: NewPage, server: Server) -> None:
    page = new_page()
    page.goto(server.url + "/#/live")
    page.get_by_role("button", name="Start").click()
    page.locator(".so-far b", has_text="SPEAKER_").first.wait_for()
    page.locator(".so-far p", has_text=re.compile("hello", re.IGNORECASE)).first.wait_for()
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".transcript[data-complete]")
    assert "hello" in page.locator(".feed").inner_text().lower()
    page.get_by_role("button", name="Play", exact=True).click()  # it can be heard at once
    page.get_by_role("button", name="Pause").wait_for()


_MICROPHONE = """
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
      await new Promise((allow) => { window.allow = allow; });
      return window.stream = await open(wanted);
    };
    window.until = async (holds) => { while (!holds()) await new Promise(requestAnimationFrame); };
    window.given_back = () => window.stream?.getTracks().every((track) => track.readyState === "ended");
"""  # a user who allows it when the test says so


def test_a_microphone_that_is_given_to_a_page_that_was_left_is_given_back(new_page: NewPage, url: str) -> None:
    page = new_page()
    page.add_init_script(_MICROPHONE)
    page.goto(url + "/#/live")
    page.get_by_role("button", name="Start").click()
    page.evaluate("until(() => window.allow)")
    page.evaluate("location.hash = '#/'")
    page.locator(".target").wait_for()
    page.evaluate("window.allow()")
    page.evaluate("until(window.given_back)")


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (
            "AudioWorklet.prototype.addModule = async () => { asked = 1; throw Error('No such module.'); }",
            "No such module.",
        ),
        (
            "AudioContext.prototype.resume = () => { asked = 1; return new Promise(() => {}); }",
            "Its audio does not start",
        ),
    ],
)
def test_a_microphone_is_given_back_by_a_browser_that_cannot_record(
    new_page: NewPage, url: str, broken: str, told: str
) -> None:
    page = new_page()
    page.add_init_script(_MICROPHONE)
    page.add_init_script(f"window.asked = 0; {broken}")
    page.clock.install()
    page.goto(url + "/#/live")
    page.get_by_role("button", name="Start").click()
    page.evaluate("until(() => window.allow).then(() => window.allow()).then(() => until(() => window.asked))")
    page.clock.run_for(15_000)
    page.get_by_role("alert").get_by_text(told).wait_for()
    page.evaluate("until(window.given_back)")


def test_a_live_session_that_breaks_off_at_its_end_is_told_and_can_be_begun_again(new_page: NewPage, url: str) -> None:
    def server(socket: WebSocketRoute) -> None:
        finish = '{"type":"finish"}'
        socket.on_message(lambda data: socket.close(code=1011, reason="It broke.") if data == finish else None)

    page = new_page()
    page.route_web_socket("**/stream?*", server)
    page.goto(url + "/#/live")
    for _ in range(2):
        page.get_by_role("button", name="Start").click()
        page.locator(".clock", has_text="0:01").wait_for()
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("alert").get_by_text("It broke.").wait_for()
        page.get_by_role("button", name="Dismiss").click()
    page.get_by_role("button", name="Transcribe what was recorded").click()  # nothing of it is lost
    page.locator(".tasks a", has_text="live.wav").first.click()
    page.wait_for_selector(".transcript[data-complete]")
    page.get_by_role("button", name="Play", exact=True).wait_for()


def test_four_hours_of_words_do_not_hold_the_page_up(new_page: NewPage, url: str) -> None:
    # CPU time, which other programs lengthen too, but by little: the best of three.
    assert any(_longest_task(new_page(), url) < 0.05 for _ in range(3))


def _longest_task(page: Page, url: str) -> float:
    use = long_page.LongPage(page, f"{url}/#/task/{long_page.TASK}")
    longest = chromium.longest_task(page, use.everything)
    assert page.locator("[role=feed] article").first.get_attribute("aria-setsize") == "3300"
    assert page.evaluate("document.querySelectorAll('*').length") < 3000
    return longest.cpu


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on stand-ins with keys, which stores voices."""
    keys = [{"name": name, "role": "submit", "key": key} for name, key in KEYS.items()]
    voices = {"enabled": True, "key": base64.b64encode(bytes(range(32))).decode()}
    with serving(stand_ins(tmp_path_factory.mktemp("keyed"), access={"keys": keys}, voices=voices)) as address:
        yield address


def _enter(page: Page, key: str) -> None:
    chromium.filled(page, "Access key", key)
    page.keyboard.press("Enter")


def test_with_keys_one_sees_only_ones_own(new_page: NewPage, keyed: str) -> None:
    page = new_page()
    page.goto(keyed)
    _enter(page, "dsk_wrong")
    page.get_by_text("not known here").wait_for()
    _enter(page, KEYS["ann"])
    page.set_input_files("#files", {"name": "a.wav", "mimeType": "audio/wav", "buffer": wav(2)})
    page.wait_for_selector(".transcript[data-complete]")
    page.reload()  # the tab remembers the key
    page.locator(".tasks a", has_text="a.wav").wait_for()
    other = new_page()
    other.goto(keyed)
    _enter(other, KEYS["bob"])
    other.get_by_text("Nothing yet").wait_for()


def test_a_voice_is_stored_and_deleted(new_page: NewPage, keyed: str) -> None:
    page = new_page()
    page.goto(f"{keyed}/#/voices")
    _enter(page, KEYS["ann"])
    chromium.filled(page, "Name", "Zoë")
    page.set_input_files("#voice-file", {"name": "z.wav", "mimeType": "audio/wav", "buffer": speaking("0,1")})
    page.get_by_role("button", name="Store the voice").click()
    page.locator(".voices li", has_text="5 s of speech").wait_for()
    page.get_by_role("button", name="Delete the voice of Zoë").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    page.locator(".voices li").wait_for(state="detached")


def test_a_voice_is_cut_out_where_nobody_else_speaks(new_page: NewPage, url: str) -> None:
    page = new_page()
    page.goto(url)
    turns = [(0, 4, "A"), (1, 2, "B"), (3.8, 6, "B"), (7, 9, "A"), (8, 9, "C")]
    told = {"turns": [{"start": start, "end": end, "speaker": speaker} for start, end, speaker in turns]}
    script = "async (told) => (await import('./web/enrolment.js')).undisturbed(told, 'A')"
    assert page.evaluate(script, told) == [[2, 3.8], [0, 1], [7, 8]]


def test_what_another_changed_meanwhile_is_shown(new_page: NewPage, url: str) -> None:
    page = new_page()
    page.goto(f"{url}/#/task/{long_page.TASK}")
    page.wait_for_selector(".transcript[data-complete]")
    before = requests.get(f"{url}/api/v1/parallel/result/{long_page.TASK}/revisions", timeout=30).json()["revisions"]
    change = {"type": "rename", "speaker": "SPEAKER_03", "name": "Chair"}
    body = {"revision": len(before), "changes": [change]}
    assert requests.patch(f"{url}/api/v1/parallel/result/{long_page.TASK}", json=body, timeout=30).status_code == 200
    page.locator(".chip", has_text="SPEAKER_00").click()
    chromium.filled(page, "Name", "Ann")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Somebody else changed this").wait_for()
    page.locator(".chip", has_text="Chair").wait_for()
    page.locator(".chip", has_text="SPEAKER_00").wait_for()


@pytest.fixture(scope="module")
def proxied(url: str) -> Iterator[str]:
    """The address of an nginx in front of the same server."""
    if nginx.PATH is None:
        pytest.skip("needs Debian's package nginx-light")
    with nginx.before(url) as address:
        yield address


def test_the_page_works_behind_a_proxy_and_a_path(new_page: NewPage, proxied: str) -> None:
    page = new_page()
    page.goto(f"{proxied}/who")  # without the slash
    page.set_input_files("#files", {"name": "a.wav", "mimeType": "audio/wav", "buffer": wav(2)})
    page.wait_for_selector(".transcript[data-complete]")
    page.get_by_role("link", name="Live", exact=True).click()
    page.get_by_role("button", name="Start").click()
    page.locator(".so-far p").first.wait_for()
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector(".transcript[data-complete]")
    page.get_by_role("link", name="Status").click()
    page.get_by_text("Both idle").wait_for()
    assert page.url == f"{proxied}/who/status"
    page.get_by_role("link", name="API").click()
    page.get_by_text("/api/v1/parallel/transcribe").first.wait_for()


@pytest.mark.parametrize("path", ["who", "plain"])
def test_events_come_through_a_proxy_as_they_happen(proxied: str, path: str, gate: Path) -> None:
    gate.touch()  # what transcribes waits for it to go
    api, session = f"{proxied}/{path}/api/v1/parallel", requests.Session()
    task = session.post(f"{api}/transcribe/async", files={"file": ("a.wav", wav(2))}, timeout=30).json()["task_id"]
    with session.get(f"{api}/events/{task}", stream=True, timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines) == b"event: progress"
        gate.unlink()
        assert b"event: done" in lines
    session.close()


def test_what_goes_wrong_is_said_with_what_to_do(new_page: NewPage, url: str) -> None:
    page = new_page()
    page.goto(f"{url}/#/task/{'0' * 32}")
    page.get_by_text("There is no task").wait_for()
    page.set_input_files("#files", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"no recording"})
    page.get_by_role("alert").get_by_text("a.txt: ").wait_for()
    page.set_input_files("#files", {"name": "b.wav", "mimeType": "audio/wav", "buffer": wav(1, "refuse whisper")})
    page.locator(".problem").wait_for()
    page.get_by_role("button", name="Remove from the list").click()
    page.get_by_role("heading", name="Who said what").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(new_page: NewPage, url: str, scheme: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = new_page(color_scheme=scheme, viewport={"width": 390, "height": 800} if scheme == "dark" else None)
    places = [("", ".target"), ("#/live", ".talk"), ("status", ".lane"), (f"#/task/{long_page.TASK}", ".segment .edit")]
    for place, there in places:
        page.goto(f"{url}/{place}")
        page.wait_for_selector(there)
        _assert_accessible(Axe().run(page), place)
    page.locator(".segment .edit").first.click()
    _assert_accessible(Axe().run(page), "edit")


def _assert_accessible(found: Any, place: str) -> None:
    violations = [
        (place, one["id"], node["html"][:200], node["failureSummary"][:300])
        for one in found.response["violations"]
        for node in one["nodes"]
    ]
    assert violations == []
