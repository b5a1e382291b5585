"""The page's files, as the server serves them; the page itself is tried in tests/test_page.py."""

from __future__ import annotations

import re

import pytest

from diarserve.http.routes import pages
from tests.support.app import Start

PAGES = ("index.html", "status.html")


@pytest.mark.parametrize("path", ["/", "/status"])
async def test_a_page_and_all_that_it_names_is_served_under_a_strict_policy(start: Start, path: str) -> None:
    client = await start(wait=False)
    page = await client.get(path)
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    text = await page.text()
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", text)  # nothing inline
    parts = re.findall(r'(?:src|href)="(web/[^"#]+)"', text)
    assert parts
    for part in parts:
        answer = await client.get(f"/{part}")
        assert (answer.status, answer.headers["X-Content-Type-Options"]) == (200, "nosniff")


def test_every_module_that_is_imported_is_there_and_no_address_is_absolute() -> None:
    modules = {
        path.name: path.read_text() for path in pages.folder().iterdir() if path.suffix in (".js", ".html", ".css")
    }
    for name, text in modules.items():
        named = re.findall(r'from "\./([^"]+)"|new URL\("(\w+\.js)"', text)
        assert {one or other for one, other in named} <= pages.files(), name
        assert not re.search(
            r"""(?:src|href)="/|["'`](?:https?:)?//""", text.replace('"http://www.w3.org/2000/svg"', "")
        ), name
    assert set(PAGES) <= modules.keys()


@pytest.mark.parametrize("name", ["index.html", "__init__.py", "%2e%2e%2fapp.py", "%00", "nothing.js"])
async def test_only_the_pages_own_files_are_served(start: Start, name: str) -> None:
    client = await start(wait=False)
    assert (await client.get(f"/web/{name}", allow_redirects=False)).status == 404
