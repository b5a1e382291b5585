"""Settings of lanes, and of the machines that their workers are on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from diarserve.core.section import Section

MAX_WORKERS = 256  # of a lane


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


Json = BeforeValidator(_parsed)  # an environment variable holds it as JSON


class Lane(Section):
    """One kind of worker. Whatever else the section holds goes to the engine as its options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    engine: str  # a short name, or "package.module:Class": workers.runtime.engines
    workers: int = Field(1, ge=0, le=MAX_WORKERS)  # at the start
    # Between how many workers the lane is scaled, where they are set (diarserve/pool/scaling.py). min_workers = 0: an
    # idle lane gives up its last worker too, and the next job starts one.
    min_workers: Annotated[Annotated[int, Field(ge=0, le=MAX_WORKERS)] | None, Json] = None
    max_workers: Annotated[Annotated[int, Field(ge=1, le=MAX_WORKERS)] | None, Json] = None
    grow_after: float = Field(5.0, ge=0)  # seconds that a job waits before the lane grows
    shrink_after: float = Field(300.0, gt=0)  # seconds without a job after which a worker leaves
    width: int = Field(4, ge=1)  # jobs that one worker holds at a time
    fill: bool = False  # whether a batch may hold work items of several jobs
    fill_items: int = Field(0, ge=0)  # the most items of such a batch; the engine's own batch size where that is more
    fill_within: float = Field(math.inf, ge=0)  # seconds that the virtual deadlines of its jobs may lie apart
    step_timeout: float = Field(120.0, gt=0)  # seconds; a worker whose step takes longer is replaced
    boot_timeout: float = Field(300.0, gt=0)  # seconds until a worker has loaded its model
    memory_limit_mib: Annotated[Annotated[int, Field(gt=0)] | None, Json] = None
    environment: Annotated[dict[str, str], Json] = Field(default_factory=dict)
    place: Literal["local", "ray"] = "local"  # ray: on any machine of the cluster, see [cluster]
    # Of Ray, for each worker: CPU (1 by default), GPU, memory (bytes), and a cluster's own; labels of its machines.
    resources: Annotated[dict[str, float], Json] = Field(default_factory=dict)
    labels: Annotated[dict[str, str], Json] = Field(default_factory=dict)
    # Of the workers in turn: the first worker gets the first device, as the engine's option `device`.
    devices: Annotated[list[str], Json] = Field(default_factory=list)

    @model_validator(mode="after")
    def _is_within_bounds(self) -> Lane:
        low, high = self.min_workers, self.max_workers
        if (low is not None and low > self.workers) or (high is not None and high < self.workers):
            raise ValueError("workers must be from min_workers to max_workers")
        if self.workers == 0 and high is None:
            raise ValueError("a lane with workers = 0 needs max_workers")
        return self

    @property
    def most_workers(self) -> int:
        return self.max_workers or self.workers

    def options(self, worker: int = 0, *, save_memory: bool = False) -> dict[str, Any]:
        """The constructor's arguments for the engine of the lane's worker with this number, from 0."""
        options = dict(self.model_extra or {})
        if self.devices:
            options["device"] = self.devices[worker % len(self.devices)]
        if save_memory and str(options.get("device")).startswith("cuda"):
            options["save_memory"] = True
        return options


class Cluster(Section):
    """Workers on other machines (docs/ray.md)."""

    address: str = ""  # of a Ray cluster that runs: host:port, or "auto"; empty: there is none
    listen: str = ""  # where workers call this server; empty: this machine's address in the cluster
    port: int = Field(0, ge=0, le=65535)  # 0: any that is free
    advertise: str = ""  # the address that workers are told, where it is another
    # Files in PEM: frames and audio are encrypted, and workers accept this certificate alone.
    certificate: Path | None = None
    key: Path | None = None
    cache_dir: Path | None = None  # on the other machines, for audio; empty: in the temporary folder
    cache_mib: int = Field(4096, ge=0)
    share_files: bool = True  # false: audio is sent even where the data directory is there too, by a shared disk

    @model_validator(mode="after")
    def _is_whole(self) -> Cluster:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        return self
