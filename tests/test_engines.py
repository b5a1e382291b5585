"""Engines by their short names."""

from __future__ import annotations

import importlib.util
import sys
import tomllib

import pytest

from diarserve.cli import installation
from diarserve.core import engine_options
from tests.support.paths import REPOSITORY
from workers.runtime import engines

DECLARED = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["entry-points"]["diarserve.engines"]


@pytest.mark.parametrize("name", DECLARED)
def test_a_short_name_leads_to_the_engine(name: str) -> None:
    place = engines.locate(name)
    assert place == DECLARED[name]
    module, _, attribute = place.partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    with open(spec.origin) as file:
        assert f"class {attribute}(" in file.read()


@pytest.mark.parametrize("name", DECLARED)
def test_what_an_engine_needs_and_takes_is_known(name: str) -> None:
    assert engines.locate(name).partition(":")[0] in installation._PACKAGES
    assert engine_options.of_engine(name).types


def test_a_class_is_named_by_its_module() -> None:
    assert engines.locate("package.module:Class") == "package.module:Class"


def test_an_unknown_name_is_told_with_those_that_there_are() -> None:
    with pytest.raises(engines.UnknownEngine, match=r"'whispr'; there are: cascade, ctc-align, .*, whisper; or write"):
        engines.locate("whispr")


def test_an_engine_whose_packages_are_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "workers.separate.demucs", None)  # as without torch, which it imports
    with pytest.raises(engines.MissingPackage, match=r'pip install "diarserve\[separation\]"'):
        engines.start("demucs", {"model": "htdemucs"})
