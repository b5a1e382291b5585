"""The Containerfile, and what it copies. `make container-test` builds and runs it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from diarserve.cli.main import main
from diarserve.core.configuration import load
from diarserve.core.environment import variables
from tests.support.containerfile import Stage, pairs, stages
from tests.support.paths import REPOSITORY
from tests.support.server import Server

CONTAINERFILE = REPOSITORY / "Containerfile"
TARGETS = ("cpu", "cuda")


@pytest.fixture(scope="module")
def found() -> dict[str, Stage]:
    return stages(CONTAINERFILE, {"PYTHON": "python@sha256:1"})


def texts(stage: Stage, word: str) -> list[str]:
    return [each.text for each in stage.instructions if each.word == word]


def environment(stage: Stage) -> dict[str, str]:
    return pairs(" ".join(texts(stage, "ENV")), {"PATH": "/usr/bin"})


def test_hadolint_finds_nothing() -> None:
    tool = Path(sys.executable).with_name("hadolint")
    if not tool.exists():
        pytest.skip("hadolint is not installed")
    done = subprocess.run([tool, CONTAINERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_build_without_a_target_makes_the_one_for_a_cpu_and_the_base_can_be_a_digest(found: dict[str, Stage]) -> None:
    assert list(found)[-1] == "cpu"
    assert {stage.base for stage in found.values()} <= {"python@sha256:1", *found}


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_a_numeric_user_with_one_volume(found: dict[str, Stage], target: str) -> None:
    stage = found[target]
    [user], [volume] = texts(stage, "USER"), texts(stage, "VOLUME")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert volume == "/data"
    outside = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "USER"}
    places = {name: value for name, value in environment(stage).items() if name not in outside and "/" in value}
    assert {value for value in places.values() if not value.startswith(volume)} == set()
    assert {"HOME", "TMPDIR", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"} <= places.keys()


@pytest.mark.parametrize(("target", "lock"), [("cpu", "requirements-cpu.lock"), ("cuda", "requirements.lock")])
def test_an_image_holds_its_lock_without_development_tools(found: dict[str, Stage], target: str, lock: str) -> None:
    copied = texts(found[target], "COPY")
    assert all(text.startswith(f"--from=install-{target} ") for text in copied)  # no build tool, nothing of the context
    installs = " ".join(texts(found[f"install-{target}"], "RUN"))
    assert f"--require-hashes -r {lock}" in installs
    assert "requirements-dev" not in installs
    [bill] = [text for text in texts(found[f"install-{target}"], "COPY") if "--from=bill" in text]
    assert bill.split()[1] == f"/build/{lock.removesuffix('.lock')}.cdx.json"


@pytest.mark.parametrize("target", TARGETS)
def test_an_images_settings_are_settings_and_its_commands_are_commands(
    found: dict[str, Stage], target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = found[target]
    settings = load(environment=dict(environment(stage)))
    assert (settings.host, str(settings.data_dir)) == ("0.0.0.0", "/data")
    assert len(list(variables(environment(stage)))) == 2
    [health] = [json.loads(text.partition("CMD ")[2]) for text in texts(stage, "HEALTHCHECK")]
    [command] = [json.loads(text) for text in texts(stage, "CMD")]
    assert health[0] == json.loads(texts(stage, "ENTRYPOINT")[0])[0] == "diarserve"
    assert health[2:] == command[1:]  # the same configuration, and so the same port
    for name in (health[1], command[0]):
        assert main([name, "--help"]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_says_what_it_is(found: dict[str, Stage], target: str) -> None:
    labels = pairs(" ".join(texts(found[target], "LABEL")), {"VERSION": "1", "REVISION": "2"})
    names = {name.removeprefix("org.opencontainers.image.") for name in labels}
    assert names == {"title", "description", "licenses", "version", "revision", "base.name"}


def test_what_is_copied_is_in_the_context_and_nothing_else_is(found: dict[str, Stage]) -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copies = [text.split() for stage in found.values() for text in texts(stage, "COPY")]
    sources = {name for words in copies if not words[0].startswith("--from=") for name in words[:-1]}
    assert {name for name in sources if not (REPOSITORY / name).exists()} == set()
    matching = {re.sub(r"^requirements.*\.lock$", "requirements*.lock", name) for name in sources}
    assert matching == allowed


def test_the_health_check_asks_the_configured_port(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIARSERVE_HOST", "0.0.0.0")
    monkeypatch.setenv("DIARSERVE_PORT", str(server.port))
    assert main(["health"]) == 0
    with socket.create_server(("127.0.0.1", 0)) as unused:
        free = unused.getsockname()[1]
    monkeypatch.setenv("DIARSERVE_PORT", str(free))
    assert main(["health"]) == 1
    assert str(free) in capsys.readouterr().err


def test_what_a_cluster_needs_beside_the_lock_of_the_cpu_is_whole(found: dict[str, Stage]) -> None:
    [command] = [text for text in texts(found["install-cpu"], "RUN") if "cluster.lock" in text]
    [names] = re.findall(r"\^\(([a-z|-]+)\)==", command)
    locked, everything = (
        set(re.findall(r"(?m)^([a-z0-9-]+)==", (REPOSITORY / name).read_text()))
        for name in ("requirements-cpu.lock", "requirements.lock")
    )
    brought = set(names.split("|"))
    assert brought <= everything - locked
    unseen = ["psycopg", "psycopg-binary", "psycopg-pool", "obstore", "ray"]
    needed: set[str] = set()
    while unseen:
        needed.add(name := unseen.pop())
        unseen += demanded(name) - needed
    assert needed <= brought | locked


def demanded(package: str) -> set[str]:
    """Names of what an installed package requires here, without its extras."""
    requirements = map(Requirement, distribution(package).requires or ())
    return {
        canonicalize_name(each.name) for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})
    }
