"""What a wheel holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import diarserve
from tests.support.paths import REPOSITORY
from workers.diarize.embedded import on_cpu

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]


def test_every_package_is_listed() -> None:
    on_disk = {
        ".".join(file.parent.relative_to(REPOSITORY).parts)
        for top in ("diarserve", "workers")
        for file in (REPOSITORY / top).rglob("__init__.py")
    }
    assert sorted(PACKAGES) == sorted(on_disk | {"diarserve.config"})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves its own build folder behind, and would pack what an earlier one left."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("diarserve", "workers", "config"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(REPOSITORY / name, source)
    build = ["uv", "build", "--quiet", "--offline", "--wheel", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([sys.executable, "-m", *build, "--out-dir", str(folder), str(source)], check=True)
    [built] = folder.glob("*.whl")
    return built


def test_a_wheel_holds_all_packages_configurations_and_types(wheel: Path) -> None:
    assert wheel.name == f"diarserve-{diarserve.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [metadata] = [archive.read(name).decode() for name in names if name.endswith("/METADATA")]
    modules = {
        str(file.relative_to(REPOSITORY))
        for top in ("diarserve", "workers")
        for file in (REPOSITORY / top).rglob("*.py")
    }
    page = {
        f"diarserve/http/web/{file.name}" for file in (REPOSITORY / "diarserve/http/web").iterdir() if file.is_file()
    }
    configurations = {f"diarserve/config/{file.name}" for file in (REPOSITORY / "config").glob("*.toml")}
    weights = {str(file.relative_to(REPOSITORY)) for file in on_cpu.WEIGHTS.iterdir()}
    assert modules | page | configurations | weights | {"diarserve/py.typed", "workers/py.typed"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "License-Expression: Apache-2.0\n" in metadata


def test_what_a_wheel_installs_finds_its_default_configuration(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "from diarserve.core.configuration import default_file, load; load(environment={}); print(default_file())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert done.stdout.strip() == str(tmp_path / "diarserve/config/default.toml")
