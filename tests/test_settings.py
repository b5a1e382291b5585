from __future__ import annotations

from pathlib import Path

import pytest

from diarserve.core.settings import ConfigError, load

MINIMAL = """
[decode]
engine = "a:A"
[whisper]
engine = "b:B"
beam = 5
[embedded]
engine = "c:C"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(MINIMAL)
    return path


def test_the_default_file_is_valid() -> None:
    assert load(environment={}).whisper.engine == "workers.whisper.engine:Whisper"


def test_the_environment_is_laid_over_the_file_and_arguments_over_both(file: Path) -> None:
    environment = {
        "DIARSERVE_PORT": "9000",
        "DIARSERVE_DATA_DIR": "/srv/data",
        "DIARSERVE_LIMITS_MAX_PENDING": "7",
        "DIARSERVE_WHISPER_BEAM": "1",
        "DIARSERVE_WHISPER_MODEL": "large-v3",
        "DIARSERVE_EMBEDDED_STEP_TIMEOUT": "9.5",
        "OTHER": "x",
    }
    settings = load(file, environment, port=None, host="::1")
    assert (settings.host, settings.port, settings.data_dir) == ("::1", 9000, Path("/srv/data"))
    assert settings.limits.max_pending == 7
    assert settings.whisper.options() == {"beam": 1, "model": "large-v3"}
    assert settings.diarizers["embedded"].step_timeout == 9.5


def test_the_specifications_variables_lie_between_the_file_and_ours(file: Path) -> None:
    environment = {
        "MAX_WORKERS": "2",
        "USE_PROCESS_POOL": "false",
        "PARALLEL_PROCESSING": "False",
        "GPU_MEMORY_OPTIMIZATION": "true",
        "DIARSERVE_WHISPER_WIDTH": "9",
    }
    settings = load(file, environment)
    assert settings.limits.running == 2
    assert (settings.decode.width, settings.whisper.width, settings.diarizers["embedded"].width) == (2, 9, 2)
    assert not settings.use_process_pool
    assert not settings.parallel_processing
    assert settings.gpu_memory_optimization
    ours = load(file, environment | {"DIARSERVE_PARALLEL_PROCESSING": "true"})
    assert ours.parallel_processing
    assert load(file, environment, max_workers=3, use_process_pool=True).limits.running == 3


def test_what_is_logged_is_set_as_a_whole_and_by_module(file: Path) -> None:
    settings = load(
        file, {"DIARSERVE_LOG_LEVEL": "WARNING", "DIARSERVE_LOG_MODULES": '{"workers.whisper.engine": "debug"}'}
    )
    assert (settings.log_level, settings.log_modules) == ("warning", {"workers.whisper.engine": "debug"})


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        ({"DIARSERVE_PORT": "many"}, "port"),
        ({"DIARSERVE_LIMITS_MAX_PENDING": "0"}, "limits.max_pending"),
        ({"DIARSERVE_LIMITS_MAX_PENDIGN": "5"}, "limits.max_pendign"),
        ({"DIARSERVE_COLOUR": "blue"}, "colour"),
        ({"DIARSERVE_WHISPER_WORKERS": "none"}, "whisper.workers"),
        ({"DIARSERVE_LOG_MODULES": "workers.whisper.engine=debug"}, "log_modules"),
        ({"DIARSERVE_LOG_MODULES": '{"workers.whisper.engine": "loud"}'}, r"log_modules\.workers\.whisper\.engine"),
        ({"MAX_WORKERS": "0"}, "MAX_WORKERS"),
        ({"MAX_WORKERS": "some"}, "MAX_WORKERS"),
        ({"USE_PROCESS_POOL": "perhaps"}, "USE_PROCESS_POOL"),
        ({"PARALLEL_PROCESSING": ""}, "PARALLEL_PROCESSING"),
        ({"GPU_MEMORY_OPTIMIZATION": "2"}, "GPU_MEMORY_OPTIMIZATION"),
    ],
)
def test_a_wrong_value_is_named(file: Path, environment: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"\b{key}:"):
        load(file, environment)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load(tmp_path / "nowhere.toml", {})
