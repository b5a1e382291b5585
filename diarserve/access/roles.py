"""What a key may do, by its role. Every endpoint names the scope that it needs (diarserve/http/openapi/describe.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from diarserve.core.types import Role

# read: look at tasks and what the server can do. submit: send recordings, cancel and delete tasks. metrics: /metrics
# and /stats. admin: whatever names no other scope.
Scope = Literal["read", "submit", "metrics", "admin"]

SCOPES: Mapping[Role, frozenset[Scope]] = {
    "read": frozenset({"read"}),
    "submit": frozenset({"read", "submit"}),
    "metrics": frozenset({"metrics"}),
    "admin": frozenset({"read", "submit", "metrics", "admin"}),
}


def allows(role: Role, scope: Scope) -> bool:
    """
    >>> allows("submit", "read"), allows("read", "submit")
    (True, False)
    """
    return scope in SCOPES[role]
