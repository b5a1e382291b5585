"""The environment variables of a worker's process: those it needs, and none of the server's secrets."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

from workers.runtime.privacy import NO_TELEMETRY, OFFLINE, offline

# What interpreters, allocators and libraries of models read. Everything else stays with the server: DIARSERVE_* holds
# the secret that signs callbacks, and a deployment's environment may hold any other. docs/operating.md lists it.
_NEEDED = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|TZ|TMPDIR|VIRTUAL_ENV|XDG_CACHE_HOME|MPLCONFIGDIR|"
    r"REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|PYTHON[A-Z]+|"
    r"(LC|LD|MALLOC|GLIBC|SSL_CERT|OMP|KMP|GOMP|MKL|OPENBLAS|BLIS|NUMEXPR|NUMBA|ONEDNN|DNNL|CT2|ORT|"
    r"CUDA|CUDNN|CUBLAS|NVIDIA|NCCL|TORCH|PYTORCH|TORCHINDUCTOR|TRITON|HF|HUGGINGFACE|TRANSFORMERS|NEMO)_\w+"
)
_DOWNLOADING = re.compile(
    r"HF_\w*TOKEN\w*|HUGGING_?FACE_\w*TOKEN|(https?|all|no)_proxy|(HTTPS?|ALL|NO)_PROXY",
)


def environment_of(lane: Mapping[str, str], inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the worker's process begins with: some of it counts only from there on (LD_PRELOAD, GLIBC_TUNABLES,
    ORT_DISABLE_TELEMETRY). The lane's own variables go before all others. It can import whatever this process can,
    which may run from a checkout, a zip file, or a script's folder.

    >>> own = environment_of({"OMP_NUM_THREADS": "2"}, {"HOME": "/root", "DIARSERVE_WEBHOOKS_SECRET": "x"})
    >>> own["HOME"], own["OMP_NUM_THREADS"], own["HF_HUB_OFFLINE"], "DIARSERVE_WEBHOOKS_SECRET" in own
    ('/root', '2', '1', False)
    """
    environment = {**OFFLINE, **inherited, **NO_TELEMETRY, **lane}
    downloads = not offline(environment)
    given = {name: value for name, value in environment.items() if name in lane or _passes(name, downloads)}
    folders = lane.get("PYTHONPATH", "").split(os.pathsep)
    given["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, [*filter(None, folders), *sys.path]))
    return given


def _passes(name: str, downloads: bool) -> bool:
    if name in NO_TELEMETRY or name in OFFLINE:
        return True
    if _DOWNLOADING.fullmatch(name):
        return downloads
    return bool(_NEEDED.fullmatch(name))
