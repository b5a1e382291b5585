"""Where the real recordings are."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "audio"  # not on every machine


def packaged(package: str, *parts: str) -> Path:
    """A file inside an installed package, found without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(package)
    return Path(next(iter(spec.submodule_search_locations)), *parts)


def sample(suffix: str = ".wav") -> Path:
    """A 30 s telephone call of two speakers, shipped by pyannote.audio; also .rttm (turns) and .stm (words)."""
    return packaged("pyannote", "audio", "sample", "sample" + suffix)
