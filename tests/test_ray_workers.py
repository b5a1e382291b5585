"""Workers on a Ray cluster of three nodes on this machine, whose files count as another machine's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from diarserve.core.settings import Settings
from diarserve.observe.metrics import Metrics
from diarserve.pool.lane import Lane
from diarserve.pool.lanes import Lanes, make_lanes
from tests.support.app import stand_ins
from tests.support.lanes import do, job, restarts
from tests.support.paths import REPOSITORY
from tests.support.recordings import sample
from tests.support.server import Server, configured
from tests.support.waiting import until
from workers.messages import Transcribe

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore")]  # Ray's own
ray = pytest.importorskip("ray", reason="the extra `cluster` is not installed")

LIMIT = 240.0  # seconds: Ray's processes take long to start on two busy cores


def node() -> dict[str, Any]:
    """Arguments of a node. Ports are named, since a raylet waits 15 s at most for its agents to tell theirs."""
    names = ("metrics_agent_port", "dashboard_agent_listen_port", "runtime_env_agent_port", "metrics_export_port")
    probes = [socket.create_server(("", 0)) for _ in names]
    ports = {name: probe.getsockname()[1] for name, probe in zip(names, probes, strict=True)}
    for probe in probes:
        probe.close()
    return {"object_store_memory": 80 * 2**20, **ports}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """The head, which takes no worker, and two nodes with room for two workers each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        for part in ("raylet_start", "gcs_server_port"):
            patch.setenv(f"RAY_{part}_wait_time_s", f"{LIMIT:.0f}")
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        from ray.cluster_utils import Cluster

        made = Cluster()
        for resources in ({"num_cpus": 0, "include_dashboard": False}, {"num_cpus": 2}, {"num_cpus": 2}):
            _add(made, resources)
        yield made
        made.shutdown()  # type: ignore[no-untyped-call]


def _add(cluster: Any, resources: dict[str, Any]) -> None:
    """A node. Its raylet ends itself where an agent has not written down its port within 15 s, which on two busy cores
    it has not: the port is written for it, as the agent will."""
    ports, added = node(), threading.Event()
    writer = threading.Thread(target=_write_ports, args=(added, ports["dashboard_agent_listen_port"]))
    writer.start()
    try:
        cluster.add_node(**resources, **ports)
    finally:
        added.set()
        writer.join()


def _write_ports(added: threading.Event, port: int) -> None:
    while not added.wait(0.2):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                flags = dict(part.removeprefix("--").partition("=")[::2] for part in process.cmdline())
                if {"node_id", "session_dir"} <= flags.keys():
                    file = Path(flags["session_dir"]) / f"dashboard_agent_listen_port_{flags['node_id']}"
                    if not file.exists():
                        file.write_text(str(port))


def settings(cluster: Any, folder: Path, **whisper: Any) -> Settings:
    return stand_ins(
        folder,
        cluster={"address": cluster.address, "share_files": False, "cache_dir": folder / "cache"},
        whisper={"place": "ray", "step_seconds": 0.02, "boot_timeout": LIMIT, "width": 2, **whisper},
    )


@asynccontextmanager
async def whisper(made: Settings) -> AsyncIterator[tuple[Lane, Lanes]]:
    made.data_dir.mkdir(exist_ok=True)
    lanes = make_lanes(made, Metrics())
    lane = lanes.whisper
    lane.start()
    try:
        await asyncio.wait_for(lane.wait_ready(), LIMIT)
        yield lane, lanes
    finally:
        await lane.close()
        assert lanes.cluster
        await lanes.cluster.close()


def recording(folder: Path, seconds: int = 2) -> Transcribe:
    request = job(folder, seconds)
    Path(request.audio.path).write_bytes(bytes(4 * request.audio.samples))
    return request


def supervisors(lane: Lane) -> list[psutil.Process]:
    """Ray's actors, whose children the workers are."""
    return [psutil.Process(worker["pid"]) for worker in lane.state()["workers"] if worker["pid"]]


async def test_workers_on_other_nodes_do_jobs_and_are_replaced_when_they_or_their_nodes_die(
    cluster: Any, tmp_path: Path
) -> None:
    made = settings(cluster, tmp_path, workers=3)
    async with whisper(made) as (lane, _):
        await until(lambda: len(supervisors(lane)) == 3, LIMIT)
        actors = supervisors(lane)
        assert len({actor.ppid() for actor in actors}) == 2  # raylets: the nodes
        jobs = [asyncio.create_task(do(lane, recording(tmp_path / str(n), 100))) for n in range(12)]
        await until(lambda: sum(worker["jobs"] for worker in lane.state()["workers"]) == 6)
        [worker] = actors[0].children()
        worker.kill()
        os.kill(actors[1].pid, signal.SIGKILL)
        await until(lambda: restarts(lane) == 2, LIMIT)
        assert [len((await done).result.words) for done in jobs] == [100] * 12
        cached = list((tmp_path / "cache" / "files").iterdir())
        assert [file.stat().st_size for file in cached] == [100 * 32_000]  # they are all the same

        await until(lambda: len(supervisors(lane)) == 3, LIMIT)
        lost = supervisors(lane)[0]
        jobs = [asyncio.create_task(do(lane, recording(tmp_path / f"more-{n}", 100))) for n in range(6)]
        before = restarts(lane)
        os.kill(lost.ppid(), signal.SIGKILL)  # a raylet: the node is lost with all that is on it
        await until(lambda: restarts(lane) > before, LIMIT)
        assert [len((await done).result.words) for done in jobs] == [100] * 6


async def test_a_lane_on_the_cluster_grows_and_shrinks_as_a_local_one(cluster: Any, tmp_path: Path) -> None:
    made = settings(cluster, tmp_path, min_workers=1, max_workers=2, grow_after=0.1, shrink_after=3.0)
    async with whisper(made) as (lane, _):
        jobs = [asyncio.create_task(do(lane, recording(tmp_path / str(n), 200))) for n in range(8)]
        await until(lambda: len(supervisors(lane)) == 2, LIMIT)
        assert [len((await done).result.words) for done in jobs] == [200] * 8
        await until(lambda: len(lane.state()["workers"]) == 1, LIMIT)
        assert restarts(lane) == 0


@pytest.mark.models
def test_real_models_on_other_nodes_say_what_they_say_on_this_one(cluster: Any, server: Server, tmp_path: Path) -> None:
    here = server.transcribe(sample())
    config = f"""
    separate = false
    [cluster]
    address = "{cluster.address}"
    share_files = false
    cache_dir = "{tmp_path / "cache"}"
    [whisper]
    place = "ray"
    boot_timeout = {LIMIT}
    [embedded]
    place = "ray"
    boot_timeout = {LIMIT}
    """
    with configured(config) as elsewhere:
        lanes = elsewhere.get("/stats")["lanes"]
        raylets = {psutil.Process(node.all_processes["raylet"][0].process.pid).pid for node in cluster.list_all_nodes()}
        workers = [worker["pid"] for name in ("whisper", "embedded") for worker in lanes[name]["workers"]]
        assert {psutil.Process(pid).ppid() for pid in workers} <= raylets
        there = elsewhere.transcribe(sample())
    assert list((tmp_path / "cache" / "files").iterdir())  # audio has travelled
    for part in ("text", "turns", "speakers"):
        assert there[part] == here[part]
