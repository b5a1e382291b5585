"""Install the client alone, as docs/client.md says, and then the default, as README.md says, each into an environment
of its own outside the checkout, and transcribe with it: how long that takes, and how large it is. `make client-install`
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

from tests.support.app import CONFIG, wav
from tests.support.paths import REPOSITORY
from tests.support.recordings import sample
from tests.support.server import configured, started

UV = [sys.executable, "-m", "uv"]
PROGRAM = """
import sys
from diarserve.client import Client
with Client(sys.argv[1]) as client:
    print(client.transcribe("call.wav").text)
loaded = {name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "pydantic", "workers"}
assert not loaded, loaded
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd).stdout


def built(folder: Path) -> Path:
    """The wheel, of a copy of the sources."""
    source = folder / "source"
    for name in ("diarserve", "workers", "config"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(REPOSITORY / name, source)
    build = ("build", "--quiet", "--offline", "--wheel", "--no-build-isolation", "--python", sys.executable)
    run(*UV, *build, "--out-dir", folder, source)
    [wheel] = folder.glob("*.whl")
    return wheel


def installed(environment: Path, what: str, *installs: tuple[str | Path, ...]) -> Path:
    """The folder of commands of a new environment with these packages. Prints what they cost."""
    began = time.monotonic()
    run(*UV, "venv", "--quiet", "--python", sys.executable, environment)
    python = environment / "bin" / "python"
    install: tuple[str | Path, ...] = (*UV, "pip", "install", "--quiet", "--link-mode", "copy", "--python", python)
    for packages in installs:
        run(*install, "--constraint", REPOSITORY / "requirements.lock", *packages)
    seconds = time.monotonic() - began
    size = sum(file.stat().st_size for file in environment.rglob("*") if file.is_file() and not file.is_symlink())
    print(f"{what}: {seconds:.1f} s, {size / 2**20:.0f} MiB")
    return python.parent


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="diarserve-install-") as made:
        folder = Path(made)
        wheel = built(folder)
        client = installed(
            folder / "client",
            "aiohttp, msgspec and diarserve without its dependencies",
            ("aiohttp", "msgspec"),
            ("--no-deps", wheel),
        )
        (folder / "call.wav").write_bytes(wav(2))
        with configured(CONFIG) as server:
            text = run(client / "python", "-c", PROGRAM, server.url, cwd=folder)
        assert text == "w0 w1\n", text

        default = installed(folder / "default", "diarserve, the embedded default", (wheel,))
        for package in ("torch", "whisperx", "nemo"):
            assert not list(default.parent.glob(f"lib/*/site-packages/{package}")), package
        empty = folder / "empty"
        empty.mkdir()
        os.chdir(empty)
        os.environ.pop("PYTHONPATH", None)  # which has the checkout
        with started([str(default / "diarserve"), "serve"]) as server:
            url = f"{server.url}/api/v1/parallel/transcribe?format=text"
            said = requests.post(url, files={"file": sample().read_bytes()}, timeout=120)
            assert "SPEAKER_01" in said.text, said.text
            assert "Neither did I." in said.text, said.text
        print("diarserve serve, in an empty folder, wrote who said what of a real recording")


if __name__ == "__main__":
    main()
