"""Values of labels that come from outside the server: they stay few, whatever is sent."""

from __future__ import annotations

import hashlib
import re

OTHER = "other"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,31}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class FewValues:
    """The first `most` values as they are, all later ones as `other`. What is not a short word is `other` too.

    >>> kinds = FewValues(2)
    >>> [kinds(kind) for kind in ("vad", "asr", "vad", "load", "no word")]
    ['vad', 'asr', 'vad', 'other', 'other']
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._seen:
            return value
        if len(self._seen) >= self._most or not _WORD.fullmatch(value):
            return OTHER
        self._seen.add(value)
        return value


def method(name: str) -> str:
    """An HTTP method: clients may send any word."""
    return name if name in _METHODS else OTHER


def status_class(status: int) -> str:
    """
    >>> status_class(429)
    '4xx'
    """
    return f"{status // 100}xx"


def name_hash(name: str) -> str:
    """Of an access key's name: it stays when the key is replaced, and tells those who read metrics no name.
    `printf %s NAME | sha256sum | cut -c1-8` gives it too."""
    return hashlib.sha256(name.encode()).hexdigest()[:8]
