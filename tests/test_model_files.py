"""Model files that try to run a program when they are loaded: none gets to."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.support.models.htdemucs import htdemucs
from tests.support.models.sortformer import sortformer
from workers.diarize.embedded.campplus import load_campplus
from workers.diarize.embedded.segmentation import load_segmentation
from workers.diarize.sortformer.engine import Sortformer
from workers.separate.demucs import Demucs

pytestmark = pytest.mark.models

CPU = torch.device("cpu")


class Program:
    """Its pickle is a call of os.system."""

    def __init__(self, marker: Path) -> None:
        self._command = f"touch {marker}"

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self._command,)


def archive(path: Path, contents: Any) -> None:
    """torch's format of today: a zip archive that holds a pickle."""
    torch.save(contents, path)


def stream(path: Path, contents: Any) -> None:
    """torch's before 1.6: pickles, one after the other."""
    torch.save(contents, path, _use_new_zipfile_serialization=False)


def stream_without_magic(path: Path, contents: Any) -> None:
    path.write_bytes(pickle.dumps(contents))


def tar(path: Path, contents: Any) -> None:
    """torch's before 0.1.10."""
    with tarfile.open(path, "w") as file:
        for name in ("storages", "tensors", "pickle"):
            data = pickle.dumps(0) + pickle.dumps(contents)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))


FORMATS = (archive, stream, stream_without_magic, tar)


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the program makes. The environment asks torch to be careless."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    return tmp_path / "it-ran"


def refuses(load: Callable[[], object], marker: Path) -> None:
    loaded = False
    with contextlib.suppress(Exception):  # each library has its own
        load()
        loaded = True
    assert not loaded
    assert not marker.exists()


def test_the_program_would_run(marker: Path, tmp_path: Path) -> None:
    stream(tmp_path / "model", Program(marker))
    torch.load(tmp_path / "model", weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("load", [lambda path: load_segmentation(path, CPU), load_campplus])
def test_the_embedded_diarizers_checkpoints(
    load: Callable[[Path], object], write: Callable[[Path, Any], None], marker: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.bin"
    for contents in ({"state_dict": Program(marker), "model_state": Program(marker)}, Program(marker)):
        write(model, contents)
        refuses(lambda: load(model), marker)


@pytest.mark.parametrize("write", FORMATS)
def test_a_checkpoint_of_demucs(write: Callable[[Path, Any], None], marker: Path, tmp_path: Path) -> None:
    bag = htdemucs(tmp_path)
    [model] = tmp_path.glob("*.th")
    for contents in ({"klass": print, "args": [Program(marker)], "kwargs": {}, "state": {}}, Program(marker)):
        write(model, contents)
        for name in (model, bag):
            refuses(lambda name=name: Demucs(model=str(name)), marker)  # type: ignore[misc]


def test_the_class_that_a_safetensors_file_names(marker: Path, tmp_path: Path) -> None:
    model = tmp_path / "htdemucs.safetensors"
    call = {"klass": "subprocess.getoutput", "args": json.dumps([f"touch {marker}"]), "kwargs": "{}"}
    save_file({"weight": torch.zeros(1)}, model, metadata=call)
    refuses(lambda: Demucs(model=str(model)), marker)


def test_the_weights_in_a_nemo_file(marker: Path, tmp_path: Path) -> None:
    model = sortformer(tmp_path)
    with tarfile.open(model) as file:
        parts = {member.name: file.extractfile(member).read() for member in file if member.isfile()}  # type: ignore[union-attr]
    [weights] = [name for name in parts if name.endswith(".ckpt")]
    for write in (archive, stream):
        write(tmp_path / "weights", {"x": Program(marker)})
        with tarfile.open(model, "w") as file:
            for name, data in (parts | {weights: (tmp_path / "weights").read_bytes()}).items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
        refuses(lambda: Sortformer(model=str(model)), marker)
