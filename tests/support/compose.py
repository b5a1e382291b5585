"""What compose files say, without an engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml


def read(file: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(file.read_text())
    return loaded


def default(text: str, given: str = "") -> str:
    """As without a variable; one that must be set is `given`.

    >>> default("${PORT:-127.0.0.1:8000}:8000")
    '127.0.0.1:8000:8000'
    >>> default("${KEY:?set KEY}", "secret")
    'secret'
    """
    return re.sub(r"\$\{\w+:\?[^}]*\}", lambda _: given, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
