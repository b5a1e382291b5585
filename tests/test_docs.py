"""What the documents name exists."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import workers.engine
import workers.messages
from tests.support.drive import drive
from tests.support.paths import REPOSITORY
from workers.messages import AudioRef, Diarization, Diarize, Turn

HISTORY = "CHANGELOG.md"  # names what was
DOCUMENTS = [path for path in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")) if path.name != HISTORY]
PATH = re.compile(r"`((?:diarserve|workers|tests|bench|config|deploy|docs)/[\w./-]*)`")
TARGET = re.compile(r"`make ([a-z-]+)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_and_make_targets_that_a_document_cites_are_there(document: Path) -> None:
    text = document.read_text()
    assert [path for path in PATH.findall(text) if not (REPOSITORY / path).exists()] == []
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert set(TARGET.findall(text)) <= targets


def test_the_engine_of_the_example_works() -> None:
    text = (REPOSITORY / "docs" / "extending.md").read_text()
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    code = "from __future__ import annotations\n" + dedent("   " + found[1])
    names: dict[str, Any] = {**vars(workers.engine), **vars(workers.messages)}
    exec(code, names)
    result = drive(names["Quiet"](), Diarize(AudioRef("nowhere", 16_000)))
    assert result == Diarization((Turn(0.0, 1.0, "SPEAKER_00"),), "quiet")
