"""`make audit`: asks pip-audit for known vulnerabilities of every locked package. Fails on those that audit.toml does
not excuse, and passes with a word where the vulnerability service cannot be reached."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from tests.support.paths import REPOSITORY

LOCK = REPOSITORY / "requirements-dev.lock"  # holds what the other locks hold
UNREACHABLE = "audit: the vulnerability service is not reachable: skipped"


def findings(
    dependencies: Sequence[Mapping[str, Any]], excused: Sequence[Mapping[str, Any]], today: date
) -> tuple[list[str], list[str]]:
    """From pip-audit's `dependencies` and audit.toml's `excused`: what must be mended, and what nothing is known about.
    An excuse that is past its `until`, or that excuses nothing, must be mended too.

    >>> known = {"id": "PYSEC-1", "aliases": [], "fix_versions": ["1.0"]}
    >>> flask = {"name": "flask", "version": "0.5", "vulns": [known]}
    >>> findings([flask], [], date(2026, 11, 1))
    (['flask 0.5: PYSEC-1, mended in 1.0'], [])
    """
    known = {(excuse["package"], excuse["id"]): excuse for excuse in excused}
    wrong, unknown, used = [], [], set()
    for dependency in dependencies:
        name = dependency["name"]
        if reason := dependency.get("skip_reason"):
            unknown.append(f"{name}: {reason}")
        for each in dependency.get("vulns", ()):
            key = next(
                ((name, each_id) for each_id in (each["id"], *each["aliases"]) if (name, each_id) in known), None
            )
            if key and today <= known[key]["until"]:
                used.add(key)
                continue
            mended = f", mended in {', '.join(each['fix_versions'])}" if each["fix_versions"] else ""
            expired = f"; excused until {known[key]['until']}" if key else ""
            wrong.append(f"{name} {dependency['version']}: {each['id']}{mended}{expired}")
            used.update([key] if key else [])
    wrong += [f"audit.toml: {name} {each_id}: there is no such finding" for name, each_id in known.keys() - used]
    return wrong, unknown


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        # Nothing is installed or resolved: the lock is asked about as it is.
        audit = ["--disable-pip", "--require-hashes", "--requirement", str(LOCK), "--progress-spinner", "off"]
        command = [sys.executable, "-m", "pip_audit", *audit, "--timeout", "10", "--format", "json"]
        done = subprocess.run([*command, "--output", str(report)], check=False, capture_output=True, text=True)
        if not report.exists():
            # It ends with a traceback where it cannot connect, and with a message about a lock that it cannot read.
            if "ConnectionError" in done.stderr or "Timeout" in done.stderr:
                print(UNREACHABLE)
                return 0
            print(done.stderr, file=sys.stderr)
            return 1
        dependencies = json.loads(report.read_text())["dependencies"]
    if all("skip_reason" in dependency for dependency in dependencies):  # a mirror that knows no vulnerabilities
        print(UNREACHABLE)
        return 0
    excused = tomllib.loads((REPOSITORY / "audit.toml").read_text()).get("excused", [])
    wrong, unknown = findings(dependencies, excused, datetime.now(UTC).date())
    print(*unknown, *wrong, sep="\n")
    print(f"audit: {len(dependencies)} packages, {len(wrong)} findings, {len(unknown)} of which nothing is known")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
