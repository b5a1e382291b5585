"""From files and environment to settings: config/default.toml, a file laid over it, the specification's variables over
that, DIARSERVE_* over those, and the command line's arguments over all. Validated at start.

`[whisper] beam = 5` in the file is DIARSERVE_WHISPER_BEAM=5 in the environment. A section without `engine` is laid over
the default's, key by key; one that names its engine stands alone, and `embedded = false` takes a section away.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diarserve.core import engine_options
from diarserve.core import environment as env
from diarserve.core.settings import LANES, SECTIONS, Lane, Settings

_Values = dict[str, Any]


class ConfigError(Exception):
    """The configuration is wrong; the message names the key."""


class _Specified(BaseModel):
    """The variables that the service's specification names."""

    model_config = ConfigDict(frozen=True)

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
    """Settings from the file laid over the embedded default, the environment over it, and over both the overrides that
    are not None: settings, and `max_workers`. Raises ConfigError."""
    values = _read(default_file())
    if file is not None:
        values = _layered(values, _read(file))
    wrong: list[str] = []
    try:
        specified = _Specified.model_validate(
            {name: environment[name] for name in _Specified.model_fields if name in environment}
        )
        _lay(values, {name.lower(): value for name, value in specified})
        wrong += _lay_variables(values, dict(env.variables(environment)))
        if env.asks_for_traces(environment) and isinstance(tracing := values.setdefault("tracing", {}), dict):
            tracing.setdefault("enabled", True)
        _lay(values, overrides)
        wrong += [problem for name in LANES for problem in _check_options(name, values)]
        settings = Settings.model_validate(values)
    except ValidationError as error:
        wrong += [f"{'.'.join(map(str, each['loc'])) or 'settings'}: {each['msg']}" for each in error.errors()]
    if wrong:
        raise ConfigError(f"{file or default_file()} and the environment: {'; '.join(wrong)}")
    return settings


def _read(file: Path) -> _Values:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error


def _layered(below: _Values, over: _Values) -> _Values:
    """Key by key, but a section that names its engine stands alone: the options below are another engine's."""
    values = dict(below)
    for name, value in over.items():
        held = values.get(name)
        if isinstance(value, dict) and isinstance(held, dict) and "engine" not in value:
            value = _layered(held, value)
        values[name] = value
    return values


def _lay(values: _Values, over: Mapping[str, Any]) -> None:
    """Lay over the values those that are not None. `max_workers`: recordings that are worked on at a time."""
    over = {key: value for key, value in over.items() if value is not None}
    if at_a_time := over.pop("max_workers", None):
        for name in ("limits", *LANES):
            if isinstance(section := values.get(name), dict):
                section["running" if name == "limits" else "width"] = at_a_time
    values.update(over)


def _lay_variables(values: _Values, variables: Mapping[str, str]) -> list[str]:
    """Lay over the values what the environment says: as text, which the setting's type reads, or as the engine's
    constructor declares the option. Returns what has no place."""
    wrong: list[str] = []
    options: list[tuple[_Values, str, str]] = []  # last: which options there are depends on the engine
    for name, text in variables.items():
        section, _, key = name.partition("_")
        if name in Settings.model_fields or section not in SECTIONS or not key:
            values[name] = text
            continue
        held = values.setdefault(section, {})
        if not isinstance(held, dict):
            wrong.append(f"{section}.{key}: there is no section [{section}]")
        elif key in SECTIONS[section].model_fields or section not in LANES:
            held[key] = text
        else:
            options.append((held, key, text))
    for held, key, text in options:
        try:
            held[key] = engine_options.of_engine(str(held.get("engine", ""))).parse(key, text)
        except engine_options.WrongOption:  # the engine is not there: this is told with the rest of the section
            held[key] = text
    return wrong


def _check_options(name: str, values: _Values) -> list[str]:
    """What is wrong with a lane's engine and its options. Those that are right are replaced by what their types make
    of them."""
    section = values.get(name)
    if not isinstance(section, dict) or not isinstance(engine := section.get("engine"), str):
        return []  # the settings' own types tell that
    options = {key: value for key, value in section.items() if key not in Lane.model_fields}
    devices = section.get("devices")
    if devices:
        options["device"] = "cpu"  # one of them, whichever
    try:
        checked, wrong = engine_options.of_engine(engine).check(options)
    except engine_options.WrongOption as error:
        return [f"{name}.{error}"]
    if devices:
        checked.pop("device", None)
    section.update(checked)
    return [f"{name}.{problem}" for problem in wrong]
