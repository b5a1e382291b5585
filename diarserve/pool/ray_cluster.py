"""Workers on machines of a Ray cluster (https://docs.ray.io): Ray finds the machine, starts an actor there, and tells
its end. Nothing of a job goes through Ray: the actor calls the server (diarserve.pool.gateway).

`ray` is imported when the first worker is started, and never where no lane has `place = "ray"`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

from msgspec import msgpack

from diarserve.core.settings import Cluster
from diarserve.core.settings import Lane as LaneSettings
from diarserve.pool.gateway import Gateway
from diarserve.pool.remote_worker import Launched, RemoteWorker
from workers.messages import WorkerSpec
from workers.messages.remote import Call
from workers.remote.supervisor import Supervisor

log = logging.getLogger(__name__)

_OPTIONS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}  # what Ray has arguments for


class RayCluster:
    def __init__(self, settings: Cluster, data_dir: Path) -> None:
        self._settings = settings
        self._gateway = Gateway(settings, data_dir)
        self._connecting = asyncio.Lock()
        self._ray: Any = None

    async def start_worker(self, lane: LaneSettings, spec: WorkerSpec) -> RemoteWorker:
        async with self._connecting:
            if self._ray is None:
                address, ray = await asyncio.to_thread(_connected, self._settings.address)
                await self._gateway.start(address)
                self._ray = ray

        async def launch(call: Call) -> Launched:
            return await _launched(self._ray, lane, spec, call)

        return await RemoteWorker.start(self._gateway, launch, spec)

    async def close(self) -> None:
        """After the workers' end."""
        self._gateway.close()
        if self._ray:
            await asyncio.to_thread(self._ray.shutdown)


def _connected(address: str) -> tuple[str, Any]:
    """This machine's address as the cluster's others see it, and ray."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when it is imported; nothing is told to anybody
    import ray

    ray.init(address=address, namespace="diarserve", log_to_driver=False, configure_logging=False)
    own_address: Any = ray.util.get_node_ip_address
    return str(own_address()), ray


async def _launched(ray: Any, lane: LaneSettings, spec: WorkerSpec, call: Call) -> Launched:
    options: dict[str, Any] = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0}
    options["resources"] = {name: amount for name, amount in lane.resources.items() if name not in _OPTIONS}
    options |= {_OPTIONS[name]: amount for name, amount in lane.resources.items() if name in _OPTIONS}
    if lane.labels:
        options["label_selector"] = lane.labels

    def launch() -> tuple[Any, Any]:
        actor = ray.remote(Supervisor).options(name=f"{spec.lane}-{call.worker}", **options).remote()
        return actor, actor.run.remote(msgpack.encode(call))

    actor, run = await asyncio.to_thread(launch)
    return _Actor(ray, actor, asyncio.wrap_future(run.future()))


class _Actor:
    def __init__(self, ray: Any, actor: Any, ended: asyncio.Future[int]) -> None:
        self._ray, self._actor, self.ended = ray, actor, ended

    def kill(self) -> None:
        if not self.ended.done():
            self._ray.kill(self._actor, no_restart=True)
