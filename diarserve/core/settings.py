"""Configuration: a TOML file under config/, the specification's variables over it, DIARSERVE_* over those, validated
at start.

`[whisper] beam = 5` in the file is DIARSERVE_WHISPER_BEAM=5 in the environment.
"""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from diarserve.core import environment as env
from diarserve.core.types import Diarizer

MIB = 1024 * 1024
Level = Annotated[
    Literal["debug", "info", "warning", "error"],
    BeforeValidator(lambda level: level.lower() if isinstance(level, str) else level),
]


class ConfigError(Exception):
    """The configuration is wrong; the message names the key."""


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


_Json = BeforeValidator(_parsed)  # an environment variable holds it as JSON


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lane(_Section):
    """One kind of worker. Whatever else the section holds goes to the engine as its options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    engine: str
    workers: int = Field(1, ge=1)
    width: int = Field(4, ge=1)  # jobs that one worker holds at a time
    fill: bool = False  # fill a step with units of several jobs
    fill_items: int = Field(0, ge=0)  # ... up to so many, where that is more than the engine takes of one job,
    fill_within: float = Field(math.inf, ge=0)  # ... of jobs that differ by so many seconds in urgency at most
    step_timeout: float = Field(120.0, gt=0)  # seconds
    boot_timeout: float = Field(300.0, gt=0)  # seconds
    memory_limit_mib: Annotated[Annotated[int, Field(gt=0)] | None, _Json] = None
    environment: Annotated[dict[str, str], _Json] = Field(default_factory=dict)
    devices: Annotated[list[str], _Json] = Field(default_factory=list)  # of its workers in turn: cuda:0, cuda:1

    def options(self, worker: int = 0, *, save_memory: bool = False) -> dict[str, Any]:
        """What the engine of the lane's worker with this number is made with."""
        options = dict(self.model_extra or {})
        if self.devices:
            options["device"] = self.devices[worker % len(self.devices)]
        if save_memory and str(options.get("device")).startswith("cuda"):
            options["save_memory"] = True
        return options


class Limits(_Section):
    max_upload_mib: int = Field(2048, gt=0)
    max_audio_seconds: float = Field(6 * 3600.0, gt=0)
    max_pending: int = Field(64, gt=0)  # tasks accepted and not ended; one more is answered 429
    min_free_mib: int = Field(256, ge=0)  # disk space left alone; below it uploads are answered 507
    upload_timeout: float = Field(600.0, gt=0)  # seconds for a whole body
    attempts: int = Field(3, ge=1)  # tries of a job whose worker died, and of a task whose server died
    max_batch_files: int = Field(100, gt=0)
    max_queued: int = Field(10_000, gt=0)  # tasks that wait; one more is answered 429
    running: int = Field(4, gt=0)  # tasks of each priority in the pipeline at a time
    keep_results_hours: float = Field(24.0, gt=0)


class Webhooks(_Section):
    secret: str = ""  # signs every call: HMAC-SHA256; empty: unsigned
    allow_private: bool = False  # whether callbacks may go to private and loopback addresses
    attempts: int = Field(6, ge=1)
    timeout: float = Field(10.0, gt=0)  # seconds


class Settings(_Section):
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    data_dir: Path = Path("data")
    log_level: Level = "info"
    parallel_processing: bool = True  # false: one model after the other, the baseline to measure against
    use_process_pool: bool = True  # false: the models in threads of the server, without limits or environments
    gpu_memory_optimization: bool = False  # on a GPU: int8 weights for Whisper, and no cache is kept between jobs
    diarizer: Diarizer = "auto"  # where a request names none
    log_modules: Annotated[dict[str, Level], _Json] = Field(default_factory=dict)  # of single modules
    limits: Limits = Limits()
    webhooks: Webhooks = Webhooks()
    decode: Lane
    whisper: Lane
    # The diarizers, at least one of them: the embedded one, and NeMo's.
    embedded: Lane | None = None
    sortformer: Lane | None = None
    clustering: Lane | None = None
    separate: Lane | None = None  # without it nobody can have source_separation ...
    align: Lane | None = None  # ... or enhanced_alignment

    @property
    def diarizers(self) -> dict[str, Lane]:
        """By the name that a request chooses them by."""
        lanes = {"embedded": self.embedded, "sortformer": self.sortformer, "clustering": self.clustering}
        return {name: lane for name, lane in lanes.items() if lane}

    @model_validator(mode="after")
    def _diarizes(self) -> Settings:
        if not self.diarizers:
            raise ValueError("one of [embedded], [sortformer] and [clustering] is needed")
        if self.diarizer != "auto" and self.diarizer not in self.diarizers:
            raise ValueError(f"diarizer is {self.diarizer!r}, which is not configured")
        return self


_LANES = ("decode", "whisper", "embedded", "sortformer", "clustering", "separate", "align")
_SECTIONS: dict[str, type[_Section]] = {"limits": Limits, "webhooks": Webhooks, **dict.fromkeys(_LANES, Lane)}


class _Specified(_Section):
    """The variables that the service's specification names."""

    MAX_WORKERS: int | None = Field(None, ge=1)
    USE_PROCESS_POOL: bool | None = None
    PARALLEL_PROCESSING: bool | None = None
    GPU_MEMORY_OPTIMIZATION: bool | None = None


def default_file() -> Path:
    """config/default.toml: beside the packages in a checkout, inside diarserve/ in a wheel."""
    package = Path(__file__).resolve().parent.parent
    folder = package / "config"
    return (folder if folder.is_dir() else package.parent / "config") / "default.toml"


def load(file: Path | None = None, environment: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """Settings from the file (the embedded default without one), the environment over it, and over both the
    overrides that are not None: settings, and `max_workers`. Raises ConfigError."""
    file = file or default_file()
    try:
        values = tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    try:
        specified = _Specified.model_validate(
            {name: environment[name] for name in _Specified.model_fields if name in environment}
        )
        _lay(values, {name.lower(): value for name, value in specified})
        for name, text in env.variables(environment):
            _set(values, name, text)
        _lay(values, overrides)
        return Settings.model_validate(values)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise ConfigError(f"{file} and the environment: {'; '.join(problems)}") from error


def _lay(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Lay over the values those that are not None. `max_workers`: recordings that are worked on at a time."""
    over = {key: value for key, value in over.items() if value is not None}
    if at_a_time := over.pop("max_workers", None):
        values.setdefault("limits", {})["running"] = at_a_time
        for lane in _LANES:
            if lane in values:
                values[lane]["width"] = at_a_time
    values.update(over)


def _set(values: dict[str, Any], name: str, text: str) -> None:
    """What an environment variable says: as text, which the setting's type reads. An engine's own options have no type
    here: they are read as JSON where they are JSON."""
    section, _, key = name.partition("_")
    kind = _SECTIONS.get(section)
    if name in Settings.model_fields or kind is None or not key:
        values[name] = text
        return
    held = values.setdefault(section, {})
    if isinstance(held, dict):  # else the file is wrong, which is told later
        held[key] = text if key in kind.model_fields else _parsed(text)
