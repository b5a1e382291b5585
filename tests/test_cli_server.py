"""Commands that ask a server: the application on stand-in engines and stand-in live sessions."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from diarserve.cli import connect, listen, progress
from diarserve.cli.conversation import Conversation, Line
from diarserve.cli.main import main
from diarserve.client import Correction, Final, Interim, UtteranceEnd, Word
from diarserve.core.settings import Settings
from diarserve.http.context import LIVE
from tests.support.app import stand_ins, wav
from tests.support.http_server import serving_files
from tests.support.live_sessions import CORRECT, PAUSE, StandInSessions, second
from tests.support.paths import REPOSITORY
from tests.support.serving import serving
from tests.support.waiting import wait_until

KEY = "dsk_" + "a" * 43


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    def prepare(made: Any) -> None:
        made[LIVE] = cast(Any, StandInSessions())

    fetch = {"enabled": True, "allow_private": True}
    with serving(stand_ins(tmp_path_factory.mktemp("server"), fetch=fetch), prepare) as address:
        yield address


@pytest.fixture(autouse=True)
def _asks(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIARSERVE_URL", url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(connect, "PATIENCE", 0)


def written(name: str, order: str = "") -> str:
    Path(name).write_bytes(wav(2, order))
    return name


def test_recordings_become_files_in_every_format_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transcribe", written("a.wav"), written("b.wav"), "--format", "srt,json", "--output-dir", "out"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.json", "a.srt", "b.json", "b.srt"]
    assert json.loads(Path("out/a.json").read_text())["filename"] == "a.wav"
    assert main(["transcribe", "a.wav"]) == 0
    assert capsys.readouterr().out.startswith("[0:00.10 - 0:00.90] SPEAKER_00: w0\n")


def test_a_recording_that_is_named_by_a_url_is_fetched_by_the_server(
    tmp_path: Path, settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    written("call one.wav")
    with serving_files(tmp_path) as elsewhere:
        asked = f"{elsewhere}/call%20one.wav?part=1"
        assert main(["transcribe", asked, "--format", "json", "--output-dir", "out"]) == 0
        assert json.loads(Path("out/call one.json").read_text())["filename"] == "call one.wav"
        assert main(["transcribe", f"{elsewhere}/none.wav"]) == 1
        assert f"diarserve: {elsewhere}/none.wav: The recording could not be fetched" in capsys.readouterr().err
        with serving(settings()) as fetching_nothing:
            assert main(["transcribe", asked, "--server", fetching_nothing]) == 1
            assert "[fetch] enabled" in capsys.readouterr().err
    assert main(["transcribe", asked, "--known-speaker", "Ann=call one.wav"]) == 2
    assert "--known-speaker goes with recordings that are sent" in capsys.readouterr().err
    assert main(["transcribe", asked, "--server", ""]) == 2
    assert "only a server fetches recordings" in capsys.readouterr().err


def test_one_that_fails_stops_no_other_and_scripts_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    files = [written("a.wav"), written("bad.wav", "refuse whisper")]
    assert main(["transcribe", *files, "--output-dir", "out", "--json"]) == 1
    shown = capsys.readouterr()
    good, bad = json.loads(shown.out)
    assert (good["outputs"], good["error"]) == (["out/a.txt"], None)
    assert bad["error"]["code"] == "undecodable"
    assert "diarserve: bad.wav: This recording cannot be decoded." in shown.err
    assert not Path("out/bad.txt").exists()


def test_nothing_is_written_over_without_asking(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written("a.wav")
    Path("a.txt").write_text("mine")
    assert main(["transcribe", "a.wav", "-o", "a.txt"]) == 2
    assert "a.txt is there already.\n  --overwrite writes over it" in capsys.readouterr().err
    assert main(["transcribe", "a.wav", "-o", "a.txt", "--skip-existing"]) == 0
    monkeypatch.setattr("diarserve.cli.targets.sys", SimpleNamespace(stdin=_Terminal("n\n"), stderr=_Terminal()))
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert main(["transcribe", "a.wav", "-o", "a.txt"]) == 0
    assert "Write over?" in capsys.readouterr().err
    assert Path("a.txt").read_text() == "mine"
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(["transcribe", "a.wav", "-o", "a.txt"]) == 0
    Path("b.txt").write_text("mine")
    assert main(["transcribe", "a.wav", "-o", "b.txt", "--overwrite"]) == 0
    assert "mine" not in Path("a.txt").read_text() + Path("b.txt").read_text()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_device_is_written_to_and_a_link_stays_one() -> None:
    assert main(["transcribe", written("a.wav"), "-o", "/dev/null"]) == 0
    assert Path("/dev/null").is_char_device()
    Path("real.txt").write_text("old")
    Path("link.txt").symlink_to("real.txt")
    assert main(["transcribe", "a.wav", "-o", "link.txt", "--overwrite"]) == 0
    assert Path("link.txt").is_symlink()
    assert Path("real.txt").read_text() != "old"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.wav", "--format", "srt,doc"], "'doc' is not one of json, text"),
        (["a.wav", "--format", "srt,json"], "Several formats need --output-dir"),
        (["a.wav", "--json"], "--json needs -o or --output-dir"),
        (["--watch", "."], "--watch needs --output-dir"),
        (["a.wav", "--server", "localhost:8000"], "localhost:8000 is no address"),
        (["a.wav", "-o", "x", "--output-dir", "y"], "two names of one thing"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    written("a.wav")
    assert main(["transcribe", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_server_that_is_away_or_refuses_the_key_ends_it_with_3(
    settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str], unused_tcp_port: int
) -> None:
    nowhere = f"http://127.0.0.1:{unused_tcp_port}"
    for command in (["transcribe", written("a.wav")], ["tasks"], ["voices", "list"], ["listen", "a.wav"]):
        assert main([*command, "--server", nowhere]) == 3
        assert f"{nowhere} does not answer" in (told := capsys.readouterr().err)
        assert "  Is this its address" in told
    with serving(settings(access={"keys": [{"name": "a", "role": "submit", "key": KEY}]})) as guarded:
        assert main(["tasks", "--server", guarded]) == 3
        assert "DIARSERVE_API_KEY" in capsys.readouterr().err
        assert main(["tasks", "--server", guarded, "--api-key", KEY, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == []


def test_tasks_are_listed_fetched_and_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transcribe", written("kept.wav"), "--format", "json"]) == 0
    id = json.loads(capsys.readouterr().out)["task_id"]
    assert main(["tasks", "--status", "completed", "--limit", "5"]) == 0
    shown = capsys.readouterr().out
    assert any(
        line.startswith(f"{id}  completed  100 %") and line.endswith("  kept.wav") for line in shown.splitlines()
    )
    assert main(["result", id, "--wait", "--format", "vtt"]) == 0
    assert capsys.readouterr().out.startswith("WEBVTT")
    assert main(["result", id, "--format", "json", "-o", "kept.json"]) == 0
    assert json.loads(Path("kept.json").read_text())["task_id"] == id
    assert main(["result", id, "-o", "kept.json"]) == 2
    assert main(["tasks", id, "--delete", "--json"]) == 0
    capsys.readouterr()
    assert main(["result", id]) == 1
    assert f"There is no task {id}" in capsys.readouterr().err


def test_a_server_without_voices_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["voices", "list"]) == 1
    assert main(["voices", "add", "Ann", written("ann.wav")]) == 1
    assert "diarserve: " in capsys.readouterr().err


def test_a_folder_is_watched_until_ctrl_c() -> None:
    Path("in").mkdir()
    written("in/first.wav")
    command = [sys.executable, "-m", "diarserve", "transcribe", "--watch", "in", "--output-dir", "out"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as watching:
        wait_until(Path("out/first.txt").exists)
        written("in/second.wav")
        Path("in/notes.md").write_text("no recording")
        wait_until(Path("out/second.txt").exists)
        watching.send_signal(signal.SIGINT)
        _, told = watching.communicate(timeout=60)
    assert (watching.returncode, told) == (0, "")
    assert sorted(path.name for path in Path("out").iterdir()) == ["first.txt", "second.txt"]


def test_a_recording_is_played_to_a_live_session(capsys: pytest.CaptureFixture[str]) -> None:
    with wave.open("talk.wav", "wb") as talk:
        talk.setparams((1, 2, 16_000, 0, "NONE", ""))
        talk.writeframes(second() + second(PAUSE) + second())
    assert main(["listen", "talk.wav", "--speed", "1000"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "[0:00.10] SPEAKER_00: Word0,",
        "[0:01.10] SPEAKER_01: Word1,",
        "[0:02.10] SPEAKER_00: Word2,",
    ]
    assert "diarserve result 000" in shown.err
    assert main(["listen", "talk.wav", "--speed", "1000", "--json", "--no-keep"]) == 0
    shown = capsys.readouterr()
    events = [json.loads(line) for line in shown.out.splitlines()]
    assert [events[0]["type"], events[-1]["type"]] == ["ready", "done"]
    assert [word["word"] for event in events if event["type"] == "final" for word in event["words"]] == [
        "Word0,",
        "Word1,",
        "Word2,",
    ]
    assert shown.err == ""


@pytest.mark.parametrize("container", [False, True])
def test_a_pipe_is_heard_as_samples_or_as_a_recording(container: bool, url: str) -> None:
    samples = second() + second(CORRECT)
    file = io.BytesIO()
    with wave.open(file, "wb") as talk:
        talk.setparams((1, 2, 16_000, 0, "NONE", ""))
        talk.writeframes(samples)
    command = [sys.executable, "-m", "diarserve", "listen", "-"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    sound = file.getvalue() if container else samples
    done = subprocess.run(command, input=sound, capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stdout.decode()) == (0, "[0:00.10] SPEAKER_01: Word0, Word1,\n"), done.stderr


class _Microphone:
    """As sounddevice.RawInputStream: it calls back with what is heard."""

    opened: dict[str, Any]

    def __init__(self, **options: Any) -> None:
        if options["device"] == "nobody's":
            raise LookupError("no such device")
        type(self).opened = options

    def __enter__(self) -> None:
        for piece in (second(), second()):
            self.opened["callback"](piece, len(piece) // 2, None, None)

    def __exit__(self, *_: object) -> None:
        pass


def test_a_microphone_is_heard_until_ctrl_c(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        sys.modules, "sounddevice", SimpleNamespace(RawInputStream=_Microphone, PortAudioError=LookupError)
    )
    heard = Conversation.hear

    def hear(self: Conversation, event: Any) -> list[Line]:
        if isinstance(event, Final) and event.first == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return heard(self, event)

    monkeypatch.setattr(Conversation, "hear", hear)
    assert main(["listen", "--device", "3"]) == 0
    assert (_Microphone.opened["device"], _Microphone.opened["samplerate"]) == (3, 16_000)
    assert "Word1," in capsys.readouterr().out
    assert main(["listen", "--device", "nobody's"]) == 2
    assert "`python -m sounddevice` lists the devices" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert main(["listen"]) == 2
    assert "diarserve[microphone]" in capsys.readouterr().err


def word(text: str, speaker: str) -> Word:
    return Word(text, 1.0, 1.5, 0.9, speaker)


def test_an_utterance_changes_in_place_and_a_late_correction_is_told() -> None:
    talk = Conversation()
    assert talk.hear(Interim((word("Hell", "UNKNOWN"),))) == []
    assert talk.current() == [Line("UNKNOWN", "Hell", 1.0, interim=True)]
    talk.hear(Final(0, 0, (word("Hello.", "SPEAKER_00"), word("Yes.", "SPEAKER_00"))))
    talk.hear(Correction(1, 2, "SPEAKER_01"))
    lines = [Line("SPEAKER_00", "Hello.", 1.0), Line("SPEAKER_01", "Yes.", 1.0)]
    assert talk.current() == lines
    assert talk.hear(UtteranceEnd(0, 1.5)) == lines
    assert talk.current() == []
    assert talk.hear(Correction(0, 1, "SPEAKER_01")) == [Line("SPEAKER_01", "(it was who said: Hello.)", 1.0)]
    assert talk.colour("SPEAKER_00") != talk.colour("SPEAKER_01")


async def test_on_a_terminal_speakers_have_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system="standard", soft_wrap=True, width=80)
    monkeypatch.setattr(listen, "Console", lambda **_: console)

    async def events() -> Any:
        for event in (
            Interim((word("Hell", "UNKNOWN"),)),
            Final(0, 0, (word("Hello.", "SPEAKER_00"), word("Yes.", "SPEAKER_01"))),
            UtteranceEnd(0, 1.5),
        ):
            yield event
            await asyncio.sleep(0)

    await listen._show(events(), keep=False)
    assert "\x1b[36mHello." in screen.getvalue()
    assert "\x1b[33mYes." in screen.getvalue()


def test_bars_show_how_far_each_stage_is(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    with progress.bars() as shown, shown.bar("call.wav") as bar:
        bar.advance(40.0, {"decode": 100.0, "transcribe": 30.0, "diarize": 60.0})
        shown._progress.refresh()
    assert "call.wav" in screen.getvalue()
    assert "words 30 %, speakers 60 %" in screen.getvalue()
