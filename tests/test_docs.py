"""What the documents name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY

HISTORY = "CHANGELOG.md"  # names what was
DOCUMENTS = [path for path in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")) if path.name != HISTORY]
PATH = re.compile(r"`((?:diarserve|workers|tests|bench|config|docs)/[\w./-]*)`")
TARGET = re.compile(r"`make ([a-z-]+)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_and_make_targets_that_a_document_cites_are_there(document: Path) -> None:
    text = document.read_text()
    assert [path for path in PATH.findall(text) if not (REPOSITORY / path).exists()] == []
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert set(TARGET.findall(text)) <= targets
