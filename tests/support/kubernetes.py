"""What a chart renders to, and whether Kubernetes' schemas take it, without a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

VERSION = "1.34"  # of Kubernetes, whose schemas are asked
# Kinds of operators, whose schemas do not come with Kubernetes'.
FOREIGN = {"ScaledObject", "PodMonitor", "RayCluster"}

_HERE = "is not here: `make test-helm` installs it"

Object = dict[str, Any]


def helm() -> Any:
    return pytest.importorskip("helm_python", reason=f"helm-python-sdk {_HERE}")


def rendered(chart: Path, values: Object) -> dict[str, Object]:
    """By kind: the chart has one of each. Raises helm_python.HelmError where the values are refused."""
    library = helm()
    with library.Chart.load(chart) as loaded:
        loaded.validate_schema(values)
        texts: dict[str, str] = loaded.render(values, name="call", namespace="speech")
    found = [
        each for name, text in texts.items() if name.endswith(".yaml") for each in yaml.safe_load_all(text) if each
    ]
    by_kind = {each["kind"]: each for each in found}
    assert len(by_kind) == len(found)
    return by_kind


def validate(objects: Iterable[Object]) -> None:
    """Strictly: a field that there is not is an error."""
    schemas = pytest.importorskip("kubernetes_validate", reason=f"kubernetes-validate {_HERE}")
    for each in objects:
        if each["kind"] not in FOREIGN:
            schemas.validate(each, VERSION, strict=True)


def locked_down(pod: Object) -> bool:
    """Whether each container of a pod runs as a numeric user, with a read-only root and no capabilities."""
    return all(
        context["readOnlyRootFilesystem"] is True
        and context["allowPrivilegeEscalation"] is False
        and context["capabilities"] == {"drop": ["ALL"]}
        and context["runAsNonRoot"] is True
        and context["runAsUser"] > 1000
        and context["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in pod["containers"]
        for context in [pod.get("securityContext", {}) | each["securityContext"]]
    )
