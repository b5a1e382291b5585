"""The client, asyncio and blocking, against the application on stand-in engines."""

from __future__ import annotations

import asyncio
import inspect
import io
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from importlib import metadata
from pathlib import Path
from typing import Any, cast, get_type_hints

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from packaging.requirements import Requirement

from diarserve import client as public
from diarserve.client import FINALIZE, AsyncClient, Client, Finalize, Progress, Sentence, TaskStatus, errors, retries
from diarserve.client import document as ours
from diarserve.client.live import _KINDS as LIVE_EVENTS
from diarserve.client.options import LiveOptions, Options
from diarserve.core import options as server_options
from diarserve.core.settings import Settings
from diarserve.http import app
from diarserve.http.context import LIVE, SERVICE
from diarserve.http.live.native import StreamParameters
from diarserve.http.sse import EventStream
from diarserve.tasks import views
from diarserve.transcript import document as theirs
from tests.support.app import AppServer, stand_ins, wav
from tests.support.documents import document
from tests.support.http_server import serving_files
from tests.support.live_sessions import BREAK, CORRECT, PAUSE, StandInSessions, second
from tests.support.paths import REPOSITORY
from tests.support.serving import serving

KEY = "dsk_" + "a" * 43
Lossy = Callable[..., Awaitable[str]]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    fetch = {"enabled": True, "allow_private": True}
    with serving(stand_ins(tmp_path_factory.mktemp("server"), fetch=fetch)) as address:
        yield address


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(url, patience=5) as made:
        yield made


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Those between tries, which take no time here."""
    made: list[float] = []

    async def pause(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(retries, "sleep", pause)
    return made


@pytest.fixture
async def lossy(settings: Callable[..., Settings]) -> AsyncIterator[Lossy]:
    """A server whose connections break: `await lossy("POST", "/transcribe/async", times)` is its address."""
    running: list[AppServer] = []

    async def begun(method: str, path: str, times: int, answered: int = 0) -> str:
        left = times

        @web.middleware
        async def break_off(request: web.Request, handler: Handler) -> web.StreamResponse:
            nonlocal left
            answer = await handler(request)
            if left and request.method == method and path in request.path:
                left -= 1
                if answered:
                    return web.json_response({}, status=answered, headers={"Retry-After": "7"})
                assert request.transport
                request.transport.close()  # what was asked for has happened, and nobody hears of it
            return answer

        made = app.make(settings())
        made.middlewares.insert(0, break_off)
        running.append(AppServer(made))
        await running[-1].start_server()
        await made[SERVICE].wait_ready()
        return str(running[-1].make_url("/"))

    yield begun
    for server in running:
        await server.close()


def call(tmp_path: Path, name: str = "call.wav", seconds: int = 2, order: str = "") -> Path:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(wav(seconds, order))
    return path


async def test_a_recording_becomes_a_typed_document(client: AsyncClient, tmp_path: Path) -> None:
    told: list[Progress] = []
    path = call(tmp_path, 'Gespräch "eins".wav')
    document = await client.transcribe(path, on_progress=told.append, num_speakers=2, language="en")
    assert (document.filename, document.duration, document.language) == (path.name, 2.0, "en")
    assert [word.word for word in document.words()] == document.text.split()
    assert {segment.speaker for segment in document.segments} <= set(document.speakers)
    assert told[-1].stages.keys() == {"decode", "transcribe", "diarize"}
    status = await client.status(document.task_id)
    assert (status.ended, status.status, status.priority) == (True, "completed", "high")
    assert (await client.download(document.task_id, "srt")).startswith(b"1\n00:00:00")
    assert document.task_id in {task.task_id for task in (await client.tasks(status="completed")).tasks}
    assert (await client.delete(document.task_id)).task_id == document.task_id
    with pytest.raises(errors.NotFound) as gone:
        await client.result(document.task_id)
    assert (gone.value.code, gone.value.status) == ("not_found", 404)


@pytest.mark.parametrize("kind", ["bytes", "file", "memory"])
async def test_recordings_come_as_bytes_and_as_open_files_too(client: AsyncClient, tmp_path: Path, kind: str) -> None:
    path = call(tmp_path)
    with path.open("rb") as file:
        recording = {"bytes": path.read_bytes(), "file": file, "memory": io.BytesIO(path.read_bytes())}[kind]
        document = await client.transcribe(cast(Any, recording), filename="named.wav" if kind == "bytes" else None)
    assert document.filename == {"bytes": "named.wav", "file": "call.wav", "memory": "recording"}[kind]


async def test_a_recording_is_fetched_by_the_server(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "call.wav").write_bytes(wav(2))
    with serving_files(tmp_path) as elsewhere:
        made = await client.transcribe(url=f"{elsewhere}/call.wav", num_speakers=1)
        assert (made.filename, made.text) == ("call.wav", "w0 w1")
        with pytest.raises(errors.InvalidRequest, match="could not be fetched") as refused:
            await client.transcribe(url=f"{elsewhere}/other.wav")
    assert refused.value.param == "url"
    for wrong in ({}, {"recording": b"", "url": elsewhere}, {"url": elsewhere, "known_speakers": {"Ann": b""}}):
        with pytest.raises(ValueError, match="url"):
            await client.submit(**cast(Any, wrong))


async def test_sentences_come_before_the_transcript_and_the_status_is_last(client: AsyncClient) -> None:
    accepted = await client.submit(wav(3))
    events = [event async for event in client.events(accepted.task_id)]
    assert isinstance(events[-1], TaskStatus)
    assert events[-1].status == "completed"
    assert any(isinstance(event, Sentence) for event in events)


async def test_a_transcript_is_revised_and_a_change_in_between_is_a_conflict(client: AsyncClient) -> None:
    document = await client.transcribe(wav(2))
    changes: list[public.Change] = [public.Rename(document.speakers[0], "Ann"), public.Correct(0, 1, "Hi!")]
    assert await client.revise(document.task_id, changes) == 1
    revised = await client.result(document.task_id)
    assert (revised.revision, revised.text.split()[0], "Ann" in revised.speakers) == (1, "Hi!", True)
    with pytest.raises(errors.Conflict) as late:
        await client.revise(document.task_id, [public.Assign(0, 1, "Bo")], revision=0)
    assert "Fetch the result again" in late.value.hint
    assert await client.revise(document.task_id, [public.Restore(0)], revision=1) == 2
    assert (await client.result(document.task_id)).text == document.text


async def test_errors_have_the_servers_code_a_hint_and_the_field(
    client: AsyncClient, tmp_path: Path, settings: Callable[..., Settings]
) -> None:
    with pytest.raises(errors.InvalidRequest) as wrong:
        await client.submit(wav(1), num_speakers=0)
    assert (wrong.value.code, wrong.value.param, wrong.value.status) == ("invalid_request", "num_speakers", 400)
    with pytest.raises(errors.BadRecording) as text:
        await client.submit(b"no recording, but a text that is long enough")
    assert text.value.code == "unsupported_media"
    with pytest.raises(errors.BadRecording, match="cannot be decoded"):
        await client.transcribe(wav(1, "refuse whisper"))
    with pytest.raises(errors.NotFound):
        await client.wait("no-such/task")
    with pytest.raises(FileNotFoundError):
        await client.submit(tmp_path / "nowhere.wav")
    with serving(settings(access={"keys": [{"name": "a", "role": "submit", "key": KEY}]})) as guarded:
        async with AsyncClient(guarded) as nobody, AsyncClient(guarded, api_key=KEY) as known:
            with pytest.raises(errors.Unauthorized) as refused:
                await nobody.tasks()
            assert (refused.value.code, "DIARSERVE_API_KEY" in refused.value.hint) == ("unauthorized", True)
            assert (await known.tasks()).tasks == ()
            with pytest.raises(errors.NotFound):
                await known.voices()


async def test_a_key_makes_the_same_recording_the_same_task(client: AsyncClient) -> None:
    first = await client.submit(wav(1), idempotency_key="call-1")
    assert (await client.submit(wav(1), idempotency_key="call-1")).task_id == first.task_id
    with pytest.raises(errors.InvalidRequest) as other:
        await client.submit(wav(2), idempotency_key="call-1")
    assert other.value.code == "idempotency_key_reused"


async def test_an_upload_whose_answer_was_lost_is_sent_again_and_is_one_task(
    lossy: Lossy, pauses: list[float], tmp_path: Path
) -> None:
    async with AsyncClient(await lossy("POST", "/transcribe/async", 2)) as client:
        with call(tmp_path).open("rb") as file:
            document = await client.transcribe(file)
        assert [task.task_id for task in (await client.tasks()).tasks] == [document.task_id]
    assert len(pauses) == 2


async def test_events_that_break_off_are_asked_for_again(
    client: AsyncClient, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = EventStream.send
    broken: list[str] = []

    async def break_off(stream: EventStream, data: object, event: str | None = None) -> None:
        await tell(stream, data, event)
        if event == "segment" and len(broken) < 2:
            broken.append(event)
            raise ConnectionResetError

    monkeypatch.setattr(EventStream, "send", break_off)
    accepted = await client.submit(wav(9))
    events = [event async for event in client.events(accepted.task_id)]
    sentences = [event for event in events if isinstance(event, Sentence)]
    assert len(sentences) == len(set(sentences))
    assert isinstance(events[-1], TaskStatus)
    assert len(pauses) == len(broken) > 0


async def test_retry_after_is_kept_to_within_the_patience(lossy: Lossy, pauses: list[float]) -> None:
    url = await lossy("GET", "/tasks", 10**6, answered=503)
    async with AsyncClient(url, patience=30) as client:
        with pytest.raises(errors.Unavailable) as busy:
            await client.tasks()
    assert busy.value.retry_after == 7
    assert 3 <= len(pauses) <= 4
    assert min(pauses) >= 7
    assert sum(pauses) <= 30


async def test_a_server_that_is_not_there_is_told_with_its_address(pauses: list[float], unused_tcp_port: int) -> None:
    async with AsyncClient(f"http://127.0.0.1:{unused_tcp_port}/", patience=1) as client:
        with pytest.raises(errors.Unreachable) as unreachable:
            await client.submit(wav(1))
    assert f"127.0.0.1:{unused_tcp_port}" in unreachable.value.message
    assert "diarserve serve" in unreachable.value.hint
    assert len(pauses) > 1
    with pytest.raises(ValueError, match="no address of a server"):
        AsyncClient("localhost:8000")


async def test_waiting_ends_at_its_timeout_and_the_task_goes_on(client: AsyncClient) -> None:
    accepted = await client.submit(wav(2, "endless whisper"))
    with pytest.raises(TimeoutError):
        await client.wait(accepted.task_id, timeout=0.2)
    assert not (await client.status(accepted.task_id)).ended
    assert (await client.delete(accepted.task_id)).status == "cancelled"
    assert (await client.wait(accepted.task_id)).status == "cancelled"
    with pytest.raises(errors.NotFinished):
        await client.result(accepted.task_id)


def recordings(folder: Path) -> None:
    call(folder, "a.wav")
    call(folder, "deeper/b.wav")
    call(folder, "bad.wav", order="refuse whisper")
    (folder / "notes.txt").write_text("no recording")


async def test_a_folder_is_transcribed_and_what_is_done_is_not_done_again(client: AsyncClient, tmp_path: Path) -> None:
    source, output = tmp_path / "calls", tmp_path / "texts"
    source.mkdir()
    recordings(source)
    told: set[str] = set()
    items = {
        item.source.name: item
        async for item in client.batch(
            source, output, formats=["srt", "json"], at_once=2, on_progress=lambda path, _: told.add(path.name)
        )
    }
    assert items.keys() == {"a.wav", "b.wav", "bad.wav"} == told
    assert isinstance(items["bad.wav"].error, errors.BadRecording)
    made = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    assert made == {"a.srt", "a.json", "deeper/b.srt", "deeper/b.json"}
    assert msgspec.json.decode((output / "a.json").read_bytes())["task_id"] == items["a.wav"].task_id
    again = {item.source.name: item async for item in client.batch(source, output, formats=["srt", "json"])}
    assert sorted(name for name, item in again.items() if item.skipped) == ["a.wav", "b.wav"]
    (output / "a.srt").write_text("mine")
    over = [item async for item in client.batch([source / "a.wav"], output, formats=["srt"], overwrite=True)]
    assert [item.skipped for item in over] == [False]
    assert (output / "a.srt").read_text() != "mine"


async def test_a_batch_that_was_cut_off_takes_its_tasks_up_again(client: AsyncClient, tmp_path: Path) -> None:
    source, output = tmp_path / "calls", tmp_path / "texts"
    for number in range(3):
        call(source, f"{number}.wav", seconds=2 + number)
    seen = asyncio.Event()

    async def cut_off() -> None:
        async with aclosing(client.batch(source, output, on_progress=lambda *_: seen.set())) as items:
            async for _ in items:
                await asyncio.Event().wait()

    running = asyncio.create_task(cut_off())
    await seen.wait()
    running.cancel()
    await asyncio.wait((running,))
    before = {task.task_id for task in (await client.tasks(limit=1000)).tasks}
    items = [item async for item in client.batch(source, output)]
    assert [item.error for item in items] == [None] * 3
    assert {task.task_id for task in (await client.tasks(limit=1000)).tasks if task.filename[0] in "012"} <= before
    assert sorted(path.name for path in output.iterdir()) == ["0.json", "1.json", "2.json"]


async def test_two_recordings_of_one_name_are_told_apart_before_anything_is_sent(
    client: AsyncClient, tmp_path: Path
) -> None:
    for name in ("a.wav", "a.mp3"):
        call(tmp_path, name)
    with pytest.raises(ValueError, match=r"would be written to .*a\.json"):
        await anext(client.batch(tmp_path, tmp_path / "out"))
    with pytest.raises(FileNotFoundError):
        await anext(client.batch(tmp_path / "nowhere", tmp_path / "out"))


@pytest.fixture
async def live(settings: Callable[..., Settings]) -> AsyncIterator[AsyncClient]:
    made = app.make(settings())
    made[LIVE] = cast(Any, StandInSessions(most=1))
    server = AppServer(made)
    await server.start_server()
    await made[SERVICE].wait_ready()
    async with AsyncClient(str(server.make_url("/"))) as client:
        yield client
    await server.close()


async def test_live_audio_becomes_words_corrections_and_a_document(live: AsyncClient) -> None:
    pieces: list[bytes | Finalize] = [second(), second(CORRECT), FINALIZE, second(PAUSE)]
    events = [event async for event in live.stream(pieces, interim=False)]
    assert isinstance(events[0], public.Ready)
    finals = [event for event in events if isinstance(event, public.Final)]
    assert [word.word for final in finals for word in final.words] == ["Word0,", "Word1,", "Word2,"]
    assert public.Correction(0, 2, "SPEAKER_01") in events
    assert [event.finalized for event in events if isinstance(event, public.UtteranceEnd)][:1] == [True]
    assert isinstance(events[-1], public.Done)
    assert events[-1].document.text == "Word0, Word1, Word2,"


async def test_a_live_session_that_is_refused_or_breaks_says_why(live: AsyncClient) -> None:
    with pytest.raises(errors.InvalidRequest) as wrong:
        await anext(live.stream([], sample_rate=1))
    assert wrong.value.param == "sample_rate"
    with pytest.raises(errors.Unavailable, match="No worker is left"):
        _ = [event async for event in live.stream([second(BREAK)])]
    held = asyncio.Event()

    async def never() -> AsyncIterator[bytes]:
        yield second()
        await held.wait()

    async with aclosing(live.stream(never())) as first:
        await anext(first)
        with pytest.raises(errors.Busy) as busy:
            await anext(live.stream([]))
        assert busy.value.retry_after == 5

    def broken() -> Iterator[bytes]:
        yield second()
        raise LookupError("the microphone is gone")

    with pytest.raises(LookupError, match="microphone"):
        _ = [event async for event in live.stream(broken())]


@pytest.mark.parametrize("error", [ConnectionResetError, TimeoutError, aiohttp.ClientPayloadError, KeyError])
async def test_what_the_audio_raises_is_raised(live: AsyncClient, error: type[Exception]) -> None:
    async def from_elsewhere() -> AsyncIterator[bytes]:
        yield second()
        raise error("elsewhere")

    with pytest.raises(error, match="elsewhere"):
        _ = [event async for event in live.stream(from_elsewhere())]


def test_a_program_without_asyncio_has_the_same_calls(url: str, tmp_path: Path) -> None:
    with Client(url) as client:
        document = client.transcribe(call(tmp_path), num_speakers=2)
        assert client.result(document.task_id) == document
        assert isinstance(list(client.events(document.task_id))[-1], TaskStatus)
        assert client.tasks(limit=1).tasks
        (item,) = client.batch([tmp_path / "call.wav"], tmp_path / "out", formats=["text"])
        assert item.outputs[0].read_text()
        with pytest.raises(errors.NotFound):
            client.voices()
        unfinished = client.events(client.submit(wav(2, "endless whisper")).task_id)
        next(unfinished)
        unfinished.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.tasks()


def test_both_faces_have_the_same_methods() -> None:
    def methods(of: type) -> set[str]:
        return {name for name in vars(of) if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient)
    for name in methods(Client) - {"url", "close", "stream"}:  # what they take, and what help() tells
        assert inspect.signature(getattr(Client, name)) == inspect.signature(getattr(AsyncClient, name))
        assert getattr(Client, name).__doc__ == getattr(AsyncClient, name).__doc__


def test_it_knows_the_servers_documents_tasks_events_and_options() -> None:
    made = document(("Hello there.", "SPEAKER_00"), ("Yes.", "SPEAKER_01"))
    assert msgspec.json.decode(theirs.encode(made), type=ours.Document).text == made.text
    names = ("Word", "Segment", "Turn", "Models", "Performance", "Document", "SpeakerMatch", "SpeakerEmbedding")
    for name in (*names, "VoiceCandidate"):
        assert getattr(ours, name).__struct_fields__ == getattr(theirs, name).__struct_fields__, name
    assert set(public.TaskStatus.__struct_fields__) == set(views.TaskStatus.__struct_fields__)
    assert public.Accepted.__struct_fields__ == views.Accepted.__struct_fields__
    of_forms = {"response_format", "known_speaker_names"}
    assert set(Options.__annotations__) - {"known_speakers"} == set(server_options.Options.model_fields) - of_forms
    assert set(LiveOptions.__annotations__) == set(StreamParameters.model_fields)
    from diarserve.live import events as live_events

    kinds = (live_events.SpeechStarted, live_events.Interim, live_events.Final, live_events.Correction)
    for kind in (*kinds, live_events.UtteranceEnd, live_events.Lag, live_events.Spoken, live_events.Ended):
        tag = kind.__struct_config__.tag
        assert LIVE_EVENTS[cast(str, tag)].__struct_fields__ == kind.__struct_fields__
    assert get_type_hints(Options)


def demanded(*names: str) -> set[str]:
    """What these distributions demand of a plain installation, themselves included."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def test_it_needs_aiohttp_and_msgspec_and_no_other_room_of_diarserve(tmp_path: Path) -> None:
    for name in demanded("aiohttp", "msgspec"):
        for file in metadata.files(name) or ():
            top = tmp_path / file.parts[0]
            if not top.exists() and ".." not in file.parts and not top.suffix.endswith("info"):
                top.symlink_to(Path(str(metadata.distribution(name).locate_file(file.parts[0]))))
    (tmp_path / "diarserve").mkdir()
    (tmp_path / "diarserve" / "__init__.py").symlink_to(REPOSITORY / "diarserve" / "__init__.py")
    (tmp_path / "diarserve" / "client").symlink_to(REPOSITORY / "diarserve" / "client")
    code = """
from diarserve.client import Client, Unreachable
with Client("http://127.0.0.1:9", patience=0) as client:
    try:
        client.tasks()
    except Unreachable:
        print("fine")
"""
    command = [sys.executable, "-S", "-c", code]  # without the packages that are installed
    environment = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.stdout == "fine\n", done.stderr
