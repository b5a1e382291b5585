from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from diarserve.core.configuration import ConfigError, default_file, load
from diarserve.core.settings import LANES, Lane, Settings

MINIMAL = """
separate = false
[decode]
engine = "decoder"
[whisper]
engine = "whisper"
beam = 5
[embedded]
engine = "workers.diarize.embedded.engine:EmbeddedDiarizer"
"""

# A third party's engine, as far as its source tells what it takes.
ENGINE = """
from __future__ import annotations
import a_model_library_that_is_not_here as library
from elsewhere import Inherited

class Base:
    def __init__(self, weights: str, *, strict: "bool" = False, kind: library.Kind | None = None) -> None: ...

class Recognizer(Base):
    pass

class Open(Base):
    def __init__(self, size: int = 1, **others: float) -> None: ...

class Elsewhere(Inherited):
    pass

def make(size: int, device: str = "cpu"): ...
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(MINIMAL)
    return path


def test_the_default_file_is_valid() -> None:
    assert load(environment={}).whisper.engine == "whisper"


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
        ({"DIARSERVE_WHISPER_MIN_WORKERS": "2"}, "whisper"),  # more than there are at the start
        ({"DIARSERVE_WHISPER_WORKERS": "3", "DIARSERVE_WHISPER_MAX_WORKERS": "2"}, "whisper"),
        ({"DIARSERVE_WHISPER_WORKERS": "0"}, "whisper"),  # and never any
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


DATABASE = {"DIARSERVE_STORE_URL": "postgresql://me:s3cret@db/tasks"}


def test_what_several_servers_share_is_named_as_a_whole_and_its_secret_is_not_shown(file: Path) -> None:
    assert not load(file, {}).store.shared
    settings = load(file, DATABASE | {"DIARSERVE_STORE_OBJECTS": "s3://bucket/prefix"})
    assert settings.store.url.get_secret_value() == DATABASE["DIARSERVE_STORE_URL"]
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    "wrong",
    [
        DATABASE,
        {"DIARSERVE_STORE_OBJECTS": "s3://bucket"},
        DATABASE | {"DIARSERVE_STORE_OBJECTS": "bucket"},
        {"DIARSERVE_STORE_URL": "mysql://me:s3cret@db", "DIARSERVE_STORE_OBJECTS": "s3://bucket"},
        DATABASE | {"DIARSERVE_STORE_OBJECTS": "s3://bucket", "DIARSERVE_VOICES_ENABLED": "true"},
    ],
)
def test_what_several_servers_cannot_share_stops_the_start_without_a_secret(file: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"store|voices") as error:
        load(file, wrong)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [("LIMITS_RUNNING", "3", 3), ("WEBHOOKS_TIMEOUT", "3", 3.0), ("SUBTITLES_LINES", "3", 3), ("DECODE_WIDTH", "3", 3)],
)
def test_every_section_can_be_set_from_the_environment(variable: str, text: str, value: Any) -> None:
    section, _, key = variable.lower().partition("_")
    assert getattr(getattr(load(environment={f"DIARSERVE_{variable}": text}), section), key) == value


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


@pytest.fixture
def over(tmp_path: Path) -> Callable[..., Settings]:
    """The settings of a file of these lines."""

    def make(text: str, environment: Mapping[str, str] = {}) -> Settings:
        path = tmp_path / "over.toml"
        path.write_text(text)
        return load(path, environment)

    return make


Over = Callable[..., Settings]


def test_a_file_of_a_few_lines_is_laid_over_the_default(over: Over) -> None:
    default, settings = load(environment={}), over("[limits]\nmax_pending = 7\n[whisper]\nbeam = 1\nwidth = 3")
    assert settings.limits == default.limits.model_copy(update={"max_pending": 7})
    assert settings.whisper.options() == {**default.whisper.options(), "beam": 1}
    assert (settings.whisper.width, settings.whisper.environment) == (3, default.whisper.environment)
    assert (settings.decode, settings.diarizers) == (default.decode, default.diarizers)
    assert over("[whisper.environment]\nA = '1'").whisper.environment == {**default.whisper.environment, "A": "1"}


def test_a_section_that_names_its_engine_stands_alone(over: Over) -> None:
    whisper = over("[whisper]\nengine = 'whisper'\nmodel = 'small.en'").whisper
    assert whisper.options() == {"model": "small.en"}
    assert (whisper.environment, whisper.fill) == ({}, False)


def test_a_section_of_the_default_can_be_taken_away(over: Over, file: Path) -> None:
    sortformer = "[sortformer]\nengine = 'sortformer'\nmodel = 'x.nemo'"
    assert list(over(f"embedded = false\n{sortformer}").diarizers) == ["sortformer"]
    assert list(over(sortformer).diarizers) == ["embedded", "sortformer"]
    assert over("", {"DIARSERVE_SEPARATE": "false"}).separate is None
    with pytest.raises(ConfigError, match=r"embedded.threads: there is no section \[embedded\]"):
        over(f"embedded = false\n{sortformer}", {"DIARSERVE_EMBEDDED_THREADS": "2"})
    with pytest.raises(ConfigError, match=r"one of \[embedded\], \[sortformer\] and \[clustering\] is needed"):
        over("embedded = false")
    with pytest.raises(ConfigError, match="whisper:"):
        over("whisper = false")


def test_the_gpu_file_means_what_it_says() -> None:
    file = default_file().with_name("gpu.toml")
    said, settings = tomllib.loads(file.read_text()), load(file, {})
    for name in LANES:
        lane = getattr(settings, name)
        assert (lane is not None) == bool(said.get(name)), name
        if lane is not None:
            kept = {key: value for key, value in said[name].items() if key not in Lane.model_fields}
            assert lane.options() == kept


@pytest.mark.parametrize(
    ("text", "environment", "wrong"),
    [
        ("[whisper]\nbeem = 5", {}, r"whisper\.beem: the engine has no such option; it has: model, .*beam"),
        ("[whisper]\nbeam = 'x'", {}, r"whisper\.beam: .*integer"),
        ("[whisper]\nmodels = 'small'", {}, r"whisper\.models:"),
        ("", {"DIARSERVE_WHISPER_BEEM": "3"}, r"whisper\.beem: the engine has no such option"),
        ("", {"DIARSERVE_WHISPER_BEAM": "x"}, r"whisper\.beam: .*integer"),
        ("", {"DIARSERVE_SEPARATE_ORIGINAL": "half"}, r"separate\.original: .*number"),
        ("[sortformer]\nengine = 'sortformer'", {}, r"sortformer\.model: the engine needs this option"),
        ("[sortformer]\nmodel = 'a.nemo'", {}, r"sortformer\.engine: Field required"),
        ("[whisper]\nengine = 'whispr'", {}, r"whisper\.engine: no engine is named 'whispr'; there are: cascade, "),
        ("[whisper]\nengine = 'workers.none:Whisper'", {}, r"whisper\.engine: there is no module 'workers\.none'"),
        ("[whisper]\nengine = 'workers.whisper.engine:Whispr'", {}, r"whisper\.engine: the module .* has no 'Whispr'"),
        ("[separate]\nengine = 'rnnoise'\ndevices = ['cuda:0']", {}, r"separate\.device: the engine has no such"),
        ("[limits]\nrunning = 0\n[whisper]\nbeem = 5", {}, r"whisper\.beem: .*limits\.running:"),
    ],
)
def test_a_wrong_option_of_an_engine_stops_the_start_and_is_named(
    over: Over, text: str, environment: dict[str, str], wrong: str
) -> None:
    with pytest.raises(ConfigError, match=wrong):
        over(text, environment)


def test_options_from_the_environment_have_the_type_that_the_engine_declares(over: Over) -> None:
    environment = {
        "DIARSERVE_WHISPER_MODEL": "123",
        "DIARSERVE_WHISPER_MODELS": '["turbo", "small.en"]',
        "DIARSERVE_WHISPER_KEEP_SECONDS": "90",
        "DIARSERVE_WHISPER_SUBSTITUTE": "false",
        "DIARSERVE_WHISPER_RESIDENT": "null",
    }
    options = over("[whisper]\nengine = 'whisper'", environment).whisper.options()
    assert options == {
        "model": "123", "models": ["turbo", "small.en"], "keep_seconds": 90.0, "substitute": False, "resident": None,
    }  # fmt: skip


def test_an_engine_of_others_is_checked_as_far_as_its_source_tells(
    over: Over, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_engine.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(tmp_path)

    def options(engine: str, rest: str = "") -> dict[str, Any]:
        return over(f"[whisper]\nengine = 'their_engine:{engine}'\n{rest}").whisper.options()

    assert options("Recognizer", "weights = 'w'\nstrict = 'true'\nkind = 3") == {
        "weights": "w", "strict": True, "kind": 3,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"whisper\.weights: the engine needs this option"):
        options("Recognizer")
    assert options("Open", "size = '2'\nanything = 'x'") == {"size": 2, "anything": "x"}
    assert options("Elsewhere", "anything = 'x'") == {"anything": "x"}
    assert options("make", "size = 2\ndevices = ['cuda:1']") == {"size": 2, "device": "cuda:1"}
    assert options("Inherited") == {}
    with pytest.raises(ConfigError, match=r"whisper\.engine: the module their_engine has no 'Unknown'"):
        options("Unknown")
    (tmp_path / "their_engine.py").write_text("class Recognizer(")
    with pytest.raises(ConfigError, match=r"whisper\.engine: the module their_engine cannot be read"):
        options("Recognizer")
