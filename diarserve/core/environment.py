"""What the environment says of the settings: DIARSERVE_* variables that are ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_PREFIX = "DIARSERVE_"
_OF_CLIENTS = ("URL", "API_KEY")  # where the server is, and the key to it: diarserve.client reads them

# What Kubernetes injects into every pod of a namespace for a Service whose name is or begins with "diarserve"
# (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables): name and value must both
# look so, that a mistyped setting is still refused.
_URL = re.compile(r"(tcp|udp|sctp)://\S+:\d+")
_KUBERNETES = (
    (re.compile(r"(\w+_)?SERVICE_HOST"), re.compile(r"[0-9a-fA-F.:]+")),
    (re.compile(r"(\w+_)?SERVICE_PORT(_\w+)?"), re.compile(r"\d+")),
    (re.compile(r"(\w+_)?PORT"), _URL),
    (re.compile(r"(\w+_)?PORT_\d+_(TCP|UDP|SCTP)"), _URL),
    (re.compile(r"(\w+_)?PORT_\d+_(TCP|UDP|SCTP)_PROTO"), re.compile(r"tcp|udp|sctp")),
    (re.compile(r"(\w+_)?PORT_\d+_(TCP|UDP|SCTP)_PORT"), re.compile(r"\d+")),
    (re.compile(r"(\w+_)?PORT_\d+_(TCP|UDP|SCTP)_ADDR"), re.compile(r"[0-9a-fA-F.:]+")),
)


def asks_for_traces(environment: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's variables say where traces go, and not that none are wanted.
    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/

    >>> asks_for_traces({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}), asks_for_traces({})
    (True, False)
    """
    off = (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none"
    )
    return not off and any(environment.get(f"OTEL_EXPORTER_OTLP_{name}") for name in ("TRACES_ENDPOINT", "ENDPOINT"))


def variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The DIARSERVE_* variables, without the prefix and in lower case, but not those of Kubernetes or of clients.

    >>> list(variables({"DIARSERVE_WHISPER_BEAM": "5", "DIARSERVE_PORT": "tcp://10.0.0.1:8000", "HOME": "/root"}))
    [('whisper_beam', '5')]
    """
    for variable, text in environment.items():
        name = variable.removeprefix(_PREFIX)
        if name != variable and name not in _OF_CLIENTS and not _is_from_kubernetes(name, text):
            yield name.lower(), text


def _is_from_kubernetes(name: str, text: str) -> bool:
    return any(names.fullmatch(name) and values.fullmatch(text) for names, values in _KUBERNETES)
