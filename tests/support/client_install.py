"""Install the client alone, as docs/client.md says, into an environment of its own, and transcribe with it: how long
that takes, and how large it is. `make client-install`"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.app import CONFIG, wav
from tests.support.paths import REPOSITORY
from tests.support.server import configured

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


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="diarserve-client-") as made:
        folder = Path(made)
        source = folder / "source"
        for name in ("diarserve", "workers", "config"):
            shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
            shutil.copy(REPOSITORY / name, source)
        build = ("build", "--quiet", "--offline", "--wheel", "--no-build-isolation", "--python", sys.executable)
        run(*UV, *build, "--out-dir", folder, source)
        [wheel] = folder.glob("*.whl")
        began = time.monotonic()
        environment = folder / "venv"
        python = environment / "bin" / "python"
        run(*UV, "venv", "--quiet", "--python", sys.executable, environment)
        install: tuple[str | Path, ...] = (*UV, "pip", "install", "--quiet", "--link-mode", "copy", "--python", python)
        run(*install, "--constraint", REPOSITORY / "requirements.lock", "aiohttp", "msgspec")
        run(*install, "--no-deps", wheel)
        seconds = time.monotonic() - began
        size = sum(file.stat().st_size for file in environment.rglob("*") if file.is_file() and not file.is_symlink())
        (folder / "call.wav").write_bytes(wav(2))
        with configured(CONFIG) as server:
            text = run(python, "-c", PROGRAM, server.url, cwd=folder)
        assert text == "w0 w1\n", text
        print(f"aiohttp, msgspec and diarserve without its dependencies: {seconds:.1f} s, {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
