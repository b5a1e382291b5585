"""Files that ship inside installed packages, found without importing these."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def installed(package: str, file: str) -> Path:
    """Raises ImportError where the package is not installed."""
    top, _, rest = package.partition(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"{top} is not installed")
    return Path(next(iter(spec.submodule_search_locations)), *rest.split("."), file)
