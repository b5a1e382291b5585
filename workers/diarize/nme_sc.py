"""NeMo's speaker clustering by the normalized maximum eigengap: NME-SC (Park et al. 2019, arXiv:2003.02405)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def load_nme_sc() -> Any:
    """NeMo's offline_clustering.py on its own: importing it from the package takes 17 s, the file needs only torch."""
    package = importlib.util.find_spec("nemo")
    if package is None or not package.submodule_search_locations:
        raise ImportError("nemo_toolkit is not installed")
    path = Path(package.submodule_search_locations[0]) / "collections/asr/parts/utils/offline_clustering.py"
    spec = importlib.util.spec_from_file_location("nme_sc", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
