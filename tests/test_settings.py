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


# What a pod gets for a Service named diarserve, and for one named diarserve-web.
KUBERNETES = {
    "DIARSERVE_SERVICE_HOST": "10.0.0.1",
    "DIARSERVE_SERVICE_PORT": "8000",
    "DIARSERVE_SERVICE_PORT_HTTP": "8000",
    "DIARSERVE_PORT": "tcp://10.0.0.1:8000",
    "DIARSERVE_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "DIARSERVE_PORT_8000_TCP_PROTO": "tcp",
    "DIARSERVE_PORT_8000_TCP_PORT": "8000",
    "DIARSERVE_PORT_8000_TCP_ADDR": "10.0.0.1",
    "DIARSERVE_WEB_SERVICE_HOST": "fd00::1",
    "DIARSERVE_WEB_PORT": "tcp://[fd00::1]:80",
    "DIARSERVE_WEB_PORT_80_TCP": "tcp://[fd00::1]:80",
    "DIARSERVE_WEB_PORT_80_TCP_ADDR": "fd00::1",
}


def test_what_kubernetes_injects_for_a_service_named_diarserve_is_no_setting(file: Path) -> None:
    assert load(file, KUBERNETES) == load(file, {})
    assert load(file, KUBERNETES | {"DIARSERVE_PORT": "9000"}).port == 9000


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        ({"DIARSERVE_PORT": "tcp://"}, "port"),
        ({"DIARSERVE_PORTS": "tcp://10.0.0.1:8000"}, "ports"),
        ({"DIARSERVE_PORT_8000": "tcp://10.0.0.1:8000"}, "port_8000"),
        ({"DIARSERVE_PORT_8000_TCP": "8000"}, "port_8000_tcp"),
        ({"DIARSERVE_SERVICE_HOST": "somewhere"}, "service_host"),
        ({"DIARSERVE_SERVICE_NAME": "10.0.0.1"}, "service_name"),
    ],
)
def test_what_only_resembles_it_is_refused(file: Path, environment: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"\b{key}:"):
        load(file, environment)


@pytest.mark.parametrize("secret", ["123456", "true", "null", "1e5", '"quoted"', "[1]"])
def test_a_text_from_the_environment_stays_as_it_is(file: Path, secret: str) -> None:
    assert load(file, {"DIARSERVE_WEBHOOKS_SECRET": secret}).webhooks.secret == secret


def test_what_is_no_text_is_read_from_the_environment_as_json(file: Path) -> None:
    environment = {
        "DIARSERVE_DECODE_MEMORY_LIMIT_MIB": "null",
        "DIARSERVE_DECODE_ENVIRONMENT": '{"A": "1"}',
        "DIARSERVE_WHISPER_DEVICES": '["cuda:0", "cuda:1"]',
        "DIARSERVE_WHISPER_FILL": "True",
    }
    settings = load(file, environment)
    assert (settings.decode.memory_limit_mib, settings.decode.environment) == (None, {"A": "1"})
    assert (settings.whisper.devices, settings.whisper.fill) == (["cuda:0", "cuda:1"], True)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load(tmp_path / "nowhere.toml", {})
