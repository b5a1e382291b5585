"""Where figures go: a JSON file for each measurement under bench/results, and its section of bench/RESULTS.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
PACKAGES = ("torch", "ctranslate2", "faster-whisper", "whisperx", "nemo_toolkit", "aiohttp")
CORES = len(os.sched_getaffinity(0))


def arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Of the command line, with what all measurements share."""
    parser.add_argument("--write", action="store_true", help="put the figures into bench/results and bench/RESULTS.md")
    return parser.parse_args()


def publish(name: str, title: str, body: str, data: Mapping[str, Any], asked: argparse.Namespace) -> None:
    """Print a measurement's section; with --write keep it, and the figures behind it."""
    here = machine()
    where = (
        f"{here['date']}, commit {here['commit']}, {here['cpu']} ({here['cores']} cores, {here['memory_gib']} GiB"
        f"{', ' + here['gpu'] if here['gpu'] else ''}), Python {here['python']}, "
        + ", ".join(f"{package} {number}" for package, number in here["versions"].items())
    )
    section = f"## {title}\n\n{body.strip()}\n\n<sub>{where}</sub>"
    print(section)
    if asked.write:
        folder = FOLDER / "results"
        folder.mkdir(exist_ok=True)
        asked_for = {key: value for key, value in vars(asked).items() if key != "write"}
        kept = {"machine": here, "arguments": asked_for, **data}
        (folder / f"{name}.json").write_text(json.dumps(kept, indent=1, default=str) + "\n")
        report = FOLDER / "RESULTS.md"
        report.write_text(with_section(report.read_text() if report.exists() else "# Results\n", name, section))


def with_section(report: str, name: str, section: str) -> str:
    """The report with that section between its markers in place of the one before, or at its end."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    marked = f"{begin}\n{section}\n{end}"
    if begin not in report:
        return f"{report.rstrip()}\n\n{marked}\n"
    head, _, rest = report.partition(begin)
    return head + marked + rest.partition(end)[2]


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """In Markdown. All columns but the first are figures."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, rule, *rows))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median (smallest-largest)."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def mean(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def verdict(what: str, value: float, limit: float, *, most: bool) -> str:
    """A line that says whether a target is met. `most`: the limit is the largest value that does."""
    met = value <= limit if most else value >= limit
    return f"- {what}: {value:.2f} (target {'<=' if most else '>='} {limit:g}): {'met' if met else '**missed**'}"


def machine() -> dict[str, Any]:
    repository = FOLDER.parent
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _output("git", "-C", str(repository), "describe", "--always", "--dirty", "--abbrev=10") or "unknown",
        "cpu": _cpu_model(),
        "cores": CORES,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpu": _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").replace("\n", ", "),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
    }


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _output(*command: str) -> str:
    """What a command prints; nothing where it fails or is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
