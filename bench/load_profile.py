"""`make load-profile`: users of one kind or several, against a server of our own, and limits that must hold.

Starts a server on a free port of the loopback interface, has Locust load it with bench/locustfile.py, and ends with
Locust's exit code: 1 where a limit was missed. What is not known here goes on to Locust, such as `--max-p95 5` or
`--meeting-minutes 10`; `locust -f bench/locustfile.py --help` lists all. With --k6 it is k6 and bench/k6.js that send
clips; what is not known goes on to k6, such as `--env MAX_P95=5`, and the exit code for a missed limit is 99.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.bounds import refusal
from bench.slo import LIMITS
from tests.support.paths import REPOSITORY
from tests.support.recordings import decoded, sample
from tests.support.server import Server, running
from workers.messages import SAMPLE_RATE

_CLASSES = {name.lower(): name for name in LIMITS}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--profile", default="clips", help=f"of {', '.join(_CLASSES)}; of several, with commas "
                        "between them, each gets its share of the users")  # fmt: skip
    parser.add_argument("--users", type=int, default=4, help="in all")
    parser.add_argument("--seconds", type=int, default=60, help="for which they ask; then they wait for their answers")
    parser.add_argument("--html", type=Path, help="the report; by default build/load/PROFILE.html")
    parser.add_argument("--server-config", type=Path, help="a configuration file of the server")
    parser.add_argument("--k6", help="the program k6")
    asked, others = parser.parse_known_args(arguments)
    if unknown := set(asked.profile.split(",")) - set(_CLASSES):
        parser.error(f"there is no profile {', '.join(sorted(unknown))}: {', '.join(_CLASSES)}")
    if why := refusal("http://127.0.0.1", asked.users, asked.seconds):
        parser.error(why)
    if asked.k6 and asked.profile != "clips":
        parser.error("k6 has the profile clips alone")
    asked.html = (asked.html or REPOSITORY / "build" / "load" / f"{asked.profile}.html").absolute()
    asked.html.parent.mkdir(parents=True, exist_ok=True)
    asked.html.unlink(missing_ok=True)
    with running(arguments=["--config", str(asked.server_config)] if asked.server_config else []) as server:
        code = (_k6 if asked.k6 else _locust)(server, asked, others)
    if asked.html.exists():
        print(f"The report is in {asked.html}")
    return code


def _locust(server: Server, asked: argparse.Namespace, others: Sequence[str]) -> int:
    command = [sys.executable, "-m", "locust", "--locustfile", "bench/locustfile.py", "--headless", "--only-summary"]
    command += ["--host", server.url, "--users", str(asked.users), "--spawn-rate", str(asked.users)]
    command += ["--run-time", f"{asked.seconds}s", "--html", str(asked.html)]
    command += [_CLASSES[profile] for profile in asked.profile.split(",")]
    return subprocess.run([*command, *others], cwd=REPOSITORY, check=False).returncode


def _k6(server: Server, asked: argparse.Namespace, others: Sequence[str]) -> int:
    told = {"URL": server.url, "USERS": asked.users, "SECONDS": asked.seconds}
    told |= {"RECORDING": sample(), "AUDIO": len(decoded(sample())) / SAMPLE_RATE}
    command = [asked.k6, "run", "--no-usage-report"]
    command += [part for name, value in told.items() for part in ("--env", f"{name}={value}")]
    report = {"": "true", "_PORT": "-1", "_PERIOD": "1s", "_EXPORT": asked.html}  # needs three periods
    dashboard = {f"K6_WEB_DASHBOARD{name}": str(value) for name, value in report.items()}
    command += [*others, "bench/k6.js"]
    return subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **dashboard}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
