from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from diarserve.core.settings import Settings
from tests.support import recordings
from tests.support.paths import REPOSITORY as REPOSITORY
from tests.support.server import Server, running


@pytest.fixture(scope="session")
def sample() -> Path:
    """The 30 s telephone call of two speakers that pyannote.audio ships."""
    return recordings.sample()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server process on the embedded models, shared by all tests that do it no harm."""
    with running() as started:
        yield started


@pytest.fixture
def recording() -> Callable[..., bytes]:
    return wav


def wav(seconds: int = 2, order: str = "") -> bytes:
    """A WAV file that the stand-ins take: `seconds` of samples, and perhaps an order to obey."""
    data = f"order {order}\n".encode() if order else b""
    data = data.ljust(32_000 * seconds, b"\0")
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", len(data) + 36, b"WAVE", b"fmt ", 16, 1, 1, 16_000,
                       32_000, 2, 16, b"data", len(data))  # fmt: skip
    return head + data


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    return partial(stand_ins, tmp_path)


def stand_ins(folder: Path, **sections: Any) -> Settings:
    """Settings with stand-in engines. Keyword sections are laid over them."""
    values: dict[str, Any] = {
        "data_dir": folder / "data",
        "decode": {"engine": "tests.support.standins:Copier"},
        "whisper": {"engine": "tests.support.standins:Whisper"},
        "embedded": {"engine": "tests.support.standins:Diarizer"},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section} if isinstance(section, dict) else section
    return Settings.model_validate(values)
