from __future__ import annotations

import re


def plain(text: str) -> str:
    """Lower-case words, apostrophes kept: as references and models are compared."""
    return " ".join(re.sub(r"[^a-z0-9' ]", " ", text.lower()).split())
