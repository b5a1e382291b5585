"""What is spoken over WebSockets, in each protocol. Sessions are stand-ins; the real ones have tests of their own."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from itertools import product
from pathlib import Path
from typing import Any, cast

import msgspec
import openai
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError, web
from hypothesis import given
from hypothesis import settings as fuzzed
from hypothesis import strategies as st

from diarserve.access import key_file
from diarserve.core.errors import ServiceError
from diarserve.http import app
from diarserve.http.context import LIVE
from diarserve.http.live import conversation, deepgram, intake, native, realtime
from diarserve.live.options import LiveOptions
from tests.support import deepgram_client, live_sessions
from tests.support.app import AppServer, Client, Start, service, spool
from tests.support.live_sessions import BREAK, CORRECT, FAIL, FLOOD, PAUSE, StandInSession, StandInSessions, second
from tests.support.waiting import LIMIT, until
from workers.media.sample_stream import SampleStream

NATIVE = "/api/v1/parallel/stream"
LISTEN = "/v1/listen?encoding=linear16"
REALTIME = "/v1/realtime?intent=transcription"
SESSIONS = web.AppKey("sessions", StandInSessions)
PATHS = (NATIVE, LISTEN, REALTIME)
KEY = f"dsk_{'k' * 43}"

Socket = ClientWebSocketResponse


@pytest.fixture
def begin(settings: Callable[..., Any], aiohttp_client: Any) -> Callable[..., Awaitable[Client]]:
    async def begun(most: int = 4, **sections: Any) -> Client:
        made = app.make(settings(**sections))
        sessions = StandInSessions(most)
        made[LIVE] = cast(Any, sessions)
        made[SESSIONS] = sessions
        client: Client = await aiohttp_client(AppServer(made))
        await service(client).wait_ready()
        return client

    return begun


def sessions(client: Client) -> list[StandInSession]:
    opened: list[StandInSession] = client.app[SESSIONS].opened
    return opened


async def given_back(session: StandInSession) -> None:
    await asyncio.wait_for(session.closed.wait(), LIMIT)


async def heard(socket: Socket, until: str = "") -> list[dict[str, Any]]:
    """The messages up to the first of that type, or up to the end."""
    messages = []
    async for message in socket:
        assert message.type is WSMsgType.TEXT
        messages.append(json.loads(message.data))
        if messages[-1]["type"] == until:
            break
    return messages


async def send(socket: Socket, type: str, **fields: Any) -> None:
    await socket.send_json({"type": type, **fields})


# The native protocol


@pytest.mark.parametrize("path", PATHS)
async def test_the_session_of_a_revoked_key_ends(
    begin: Callable[..., Awaitable[Client]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(conversation, "_KEY_CHECK", 0.05)
    file = tmp_path / "keys.json"
    _, secret = key_file.add(file, "app", "submit")
    client = await begin(access={"keys_file": str(file)})
    async with client.ws_connect(path, headers={"X-API-Key": secret}) as live:
        await asyncio.to_thread(key_file.revoke, file, "app")
        async with asyncio.timeout(LIMIT):
            async for message in live:
                assert message.type is WSMsgType.TEXT
        assert live.close_code == 1008
    await given_back(sessions(client)[0])


async def test_events_of_a_session_from_ready_to_done(begin: Any) -> None:
    client = await begin()
    async with client.ws_connect(f"{NATIVE}?language=en&max_speakers=2") as live:
        await live.send_bytes(second() + second(CORRECT))
        await live.send_bytes(second(PAUSE))
        await send(live, "keepalive")
        await send(live, "finalize")
        await live.send_bytes(second()[:-1])
        await live.send_bytes(second()[-1:])  # pieces may end within a sample
        await send(live, "finish")
        told = await heard(live)
    [session] = sessions(client)
    await given_back(session)
    asked = session.listening.options
    assert (asked.language, asked.max_speakers, session.alive) == ("en", 2, 1)
    assert told[0] == {"type": "ready", "task_id": session.task_id}
    assert [one["words"][0]["word"] for one in told if one["type"] == "final"] == [f"Word{n}," for n in range(4)]
    assert [one["first"] for one in told if one["type"] == "final"] == [0, 1, 2, 3]
    [correction] = [one for one in told if one["type"] == "correction"]
    assert correction == {"type": "correction", "first": 0, "past": 2, "speaker": "SPEAKER_01"}
    assert [one["finalized"] for one in told if one["type"] == "utterance_end"] == [False, True, True]
    assert told[-1]["type"] == "done"
    assert told[-1]["document"]["text"] == "Word0, Word1, Word2, Word3,"
    assert live.close_code == 1000


ENCODINGS = {
    "encoding=mulaw&sample_rate=8000": b"\xff" * 8000,
    "encoding=alaw&sample_rate=8000": b"\xd5" * 8000,
    "encoding=float32&sample_rate=48000&channels=2": bytes(48_000 * 8),
    "encoding=pcm_s16le&sample_rate=44100": bytes(88_200),
}


async def test_every_encoding_is_heard_as_16_khz(begin: Any) -> None:
    client = await begin()
    for query, frame in ENCODINGS.items():
        async with client.ws_connect(f"{NATIVE}?{query}") as live:
            for _ in range(2):
                await live.send_bytes(frame)
            await send(live, "finish")
            await heard(live)
        assert len(sessions(client)[-1].pcm) == pytest.approx(2 * live_sessions.SECOND, abs=64)


async def test_a_wrong_parameter_is_named_instead_of_the_handshake(begin: Any) -> None:
    client = await begin()
    for query in ("encoding=opus", "sample_rate=10", "endpointing=9", "x=1"):
        answer = await client.get(f"{NATIVE}?{query}", headers=HANDSHAKE)
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, query.partition("=")[0])
    for query in ("encoding=opus", "encoding=linear16&sample_rate=10", "encoding=linear16&redact=pci"):
        answer = await client.get(f"/v1/listen?{query}", headers=HANDSHAKE)
        said = await answer.json()
        assert (answer.status, said["err_code"]) == (400, "Bad Request")
        assert said["param"] == query.split("&")[-1].partition("=")[0]
    answer = await client.get("/v1/realtime?model=gpt-realtime", headers=HANDSHAKE)
    assert (answer.status, (await answer.json())["error"]["param"]) == (400, "intent")
    assert sessions(client) == []


HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}


async def test_a_wrong_message_is_answered_and_the_session_goes_on(begin: Any) -> None:
    client = await begin()
    async with client.ws_connect(NATIVE) as live:
        for wrong in ("no json", "[]", '{"type": "sing"}', '"\ud800"'.encode("utf-8", "replace").decode()):
            await live.send_str(wrong)
        await live.send_bytes(second())
        await send(live, "finish")
        await live.send_bytes(second())
        told = await heard(live)
    assert [one["code"] for one in told if one["type"] == "error"] == ["invalid_request"] * 5
    assert told[-1]["type"] == "done"
    assert len(sessions(client)[0].pcm) == live_sessions.SECOND


async def test_a_file_is_not_heard_as_samples(begin: Any) -> None:
    client = await begin()
    for path in (f"{NATIVE}?encoding=pcm_s16le", LISTEN):
        async with client.ws_connect(path) as live:
            await live.send_bytes(b"RIFF" + bytes(100))
            told = await heard(live)
        assert told[-1]["type"].lower() == "error"
        assert live.close_code == 1003
        assert sessions(client)[-1].pcm == b""


async def test_a_recording_is_known_by_its_first_bytes_or_announced(begin: Any) -> None:
    client = await begin()
    webm, mp3 = b"\x1a\x45\xdf\xa3" + bytes(100), b"\xff\xfb\x90\x00" + bytes(100)
    for path, data, recording in (
        (NATIVE, webm, True),
        (NATIVE, mp3, False),  # as samples look
        (NATIVE, webm[:3], False),
        (f"{NATIVE}?encoding=container", mp3, True),
        ("/v1/listen", mp3, True),
    ):
        async with client.ws_connect(path) as live:
            await live.send_bytes(data[:2])
            await live.send_bytes(data[2:])
            await send(live, "CloseStream" if path == "/v1/listen" else "finish")
            await heard(live)
        session = sessions(client)[-1]
        assert bytes(session.recording) == (data if recording else b"")
        assert len(session.pcm) == (len(data) if recording else len(data) // 2 * 2)


# Deepgram's


async def test_deepgrams_messages(begin: Any) -> None:
    client = await begin()
    asked = "sample_rate=16000&interim_results=true&diarize=true&vad_events=true&utterance_end_ms=1000&punctuate=true"
    async with client.ws_connect(f"{LISTEN}&{asked}&endpointing=300&model=nova-3&keyterm=Ann") as live:
        await live.send_bytes(second() + second(PAUSE))
        await live.send_bytes(second())
        await send(live, "KeepAlive")
        await send(live, "Finalize")
        await live.send_bytes(second())
        await send(live, "CloseStream")
        told = await heard(live)
    [session] = sessions(client)
    assert (session.listening.options.hotwords, session.listening.endpointing, session.alive) == ("Ann", 0.3, 1)
    results = [one for one in told if one["type"] == "Results"]
    final = [one for one in results if one["is_final"]]
    words = [word for one in final for word in one["channel"]["alternatives"][0]["words"]]
    assert [(word["word"], word["punctuated_word"], word["speaker"]) for word in words] == [
        (f"word{n}", f"Word{n},", n % 2) for n in range(4)
    ]
    assert any(one["from_finalize"] for one in final)  # and the stream went on
    assert sum(one["speech_final"] for one in final) == 3
    assert all(one["start"] <= words_of(one)[0]["start"] for one in results if words_of(one))
    assert {"type": "SpeechStarted", "channel": [0, 1], "timestamp": 0.1} in told
    assert {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 3.6} in told
    assert told[-1]["type"] == "Metadata"
    assert told[-1]["duration"] == 4
    assert live.close_code == 1000


def words_of(results: dict[str, Any]) -> list[Any]:
    words: list[Any] = results["channel"]["alternatives"][0]["words"]
    return words


async def test_what_deepgrams_clients_do_not_ask_for_is_not_told(begin: Any) -> None:
    client = await begin()
    async with client.ws_connect(LISTEN) as live:
        await live.send_bytes(second() + second(PAUSE))
        await live.send_bytes(b"")  # as older clients end a stream
        told = await heard(live)
    assert {one["type"] for one in told} == {"Results", "Metadata"}
    assert all(one["is_final"] for one in told[:-1])
    assert all("speaker" not in word and "punctuated_word" not in word for one in told[:-1] for word in words_of(one))


async def test_a_wrong_message_ends_deepgrams_stream(begin: Any) -> None:
    client = await begin()
    async with client.ws_connect(LISTEN) as live:
        await live.send_str("no json")
        [told] = await heard(live)
    assert (told["type"], told["variant"], live.close_code) == ("Error", "SchemaError", 1008)
    await given_back(sessions(client)[0])


# OpenAI's


def appended(data: bytes) -> dict[str, str]:
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()}


def transcription(**input: Any) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": input}}}


async def test_openais_events_with_server_vad(begin: Any) -> None:
    client = await begin()
    async with client.ws_connect(REALTIME) as live:
        await live.send_json(
            transcription(
                format={"type": "audio/pcm", "rate": 16_000},
                transcription={"model": "gpt-4o-transcribe", "language": "en", "keywords": ["Ann"]},
                turn_detection={"type": "server_vad", "silence_duration_ms": 300},
            )
        )
        await live.send_json(appended(second() + second(PAUSE)))
        told = await heard(live, "conversation.item.input_audio_transcription.completed")
    assert [one["type"].removeprefix("conversation.item.input_audio_transcription.") for one in told] == [
        "session.created",
        "session.updated",
        "input_audio_buffer.speech_started",
        "delta",
        "delta",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "segment",
        "segment",
        "completed",
    ]
    shown = told[1]["session"]["audio"]["input"]
    assert shown["transcription"]["language"] == "en"
    assert shown["turn_detection"]["silence_duration_ms"] == 300
    assert len({one["item_id"] for one in told[2:]}) == 1
    assert "".join(one["delta"] for one in told if "delta" in one) == told[-1]["transcript"] == "Word0, Word1,"
    assert [(one["speaker"], one["text"]) for one in told[7:9]] == [("A", "Word0,"), ("B", "Word1,")]
    assert told[-1]["usage"] == {"type": "duration", "seconds": 2}
    first, second_one = sessions(client)  # the first was given back, since another language was asked for
    await given_back(first)
    asked = second_one.listening.options
    assert (asked.language, asked.hotwords, asked.whisper_model) == ("en", "Ann", None)
    assert second_one.listening.endpointing == 0.3
    await given_back(second_one)


async def test_openais_client_commits_clears_and_changes_its_mind(begin: Any) -> None:
    client = await begin()
    async with client.ws_connect(REALTIME) as live:
        await live.send_json(transcription(format={"type": "audio/pcmu"}, turn_detection=None))
        await heard(live, "session.updated")
        await send(live, "input_audio_buffer.commit", event_id="mine")
        [empty] = await heard(live, "error")
        assert (empty["error"]["code"], empty["error"]["event_id"]) == ("input_audio_buffer_commit_empty", "mine")
        await live.send_json(transcription(format={"type": "audio/pcm", "rate": 16_000}))
        for order in (PAUSE, CORRECT):  # a pause ends nothing
            await live.send_json(appended(second(order)))
        await send(live, "input_audio_buffer.commit")
        told = await heard(live, "conversation.item.input_audio_transcription.completed")
        assert told[-1]["transcript"] == "Word0, Word1,"
        assert [one["speaker"] for one in told if one["type"].endswith("segment")] == ["A"]
        item = told[-1]["item_id"]
        await live.send_json(appended(second()))
        await send(live, "input_audio_buffer.clear")
        await live.send_json(appended(second()))
        await send(live, "input_audio_buffer.commit")
        told = await heard(live, "conversation.item.input_audio_transcription.completed")
        assert told[-1]["transcript"] == "Word3,"
        [committed] = [one for one in told if one["type"] == "input_audio_buffer.committed"]
        assert committed["previous_item_id"] == item


async def test_the_older_dialect_of_openai(begin: Any) -> None:
    client = await begin()
    async with client.ws_connect(REALTIME, headers={"OpenAI-Beta": "realtime=v1"}) as live:
        await send(
            live,
            "transcription_session.update",
            session={"input_audio_format": "g711_alaw", "input_audio_transcription": {"model": "whisper-1"}},
        )
        created, updated = await heard(live, "transcription_session.updated")
    assert created["type"] == "transcription_session.created"
    assert updated["session"]["input_audio_format"] == "g711_alaw"
    assert updated["session"]["turn_detection"]["type"] == "server_vad"


INPUT = "session.audio.input"
WRONG: list[tuple[Any, str | None]] = [
    ("no json", None),
    ({"type": "response.create"}, "type"),
    ({"type": "session.update", "session": {"type": "realtime"}}, "session.type"),
    (transcription(format={"type": "audio/mp3"}), f"{INPUT}.format"),
    (transcription(format={"type": "audio/pcm", "rate": 1}), f"{INPUT}.format.rate"),
    (transcription(turn_detection={"type": "server_vad", "threshold": 2}), f"{INPUT}.turn_detection.threshold"),
    ({"type": "transcription_session.update", "session": {"input_audio_format": "mp3"}}, "session.input_audio_format"),
    ({"type": "input_audio_buffer.append", "audio": "?"}, "audio"),
]


async def test_openais_errors_name_the_field_and_the_session_goes_on(begin: Any) -> None:
    client = await begin()
    async with client.ws_connect(REALTIME) as live:
        for message, param in WRONG:
            await live.send_str(message if isinstance(message, str) else json.dumps(message))
            told = (await heard(live, "error"))[-1]["error"]
            assert (told["type"], told["param"]) == ("invalid_request_error", param)
        await live.send_json(transcription(noise_reduction=None))
        await heard(live, "session.updated")


async def test_an_update_that_cannot_be_done_leaves_the_session_as_it_was(begin: Any) -> None:
    client = await begin()
    async with client.ws_connect(REALTIME) as live:
        await live.send_json(transcription(transcription={"model": "absent"}))
        told = await heard(live, "error")
        assert told[-1]["error"]["code"] == "model_unavailable"
        await live.send_json(appended(second(rate=24_000)))
        await live.send_json({"type": "input_audio_buffer.commit"})
        told = await heard(live, "conversation.item.input_audio_transcription.completed")
        assert told[-1]["transcript"] == "Word0,"


async def test_what_is_listened_for_does_not_change_once_audio_has_come(begin: Any) -> None:
    client = await begin()
    async with client.ws_connect(REALTIME) as live:
        await live.send_json(appended(second(rate=24_000)))
        await live.send_json(transcription(transcription={"language": "fr"}))
        told = await heard(live, "error")
        assert told[-1]["error"]["param"] == "session.audio.input"


# vLLM's dialect


async def test_vllms_clients_are_told_deltas_and_what_was_said_between_commits(begin: Any) -> None:
    client = await begin()
    async with client.ws_connect("/v1/realtime") as live:
        assert [told["type"] for told in await heard(live, "session.created")] == ["session.created"]
        await send(live, "session.update", model="openai/whisper-large-v3")
        for text in ("Word0, Word1,", "Word2, Word3,"):
            await send(live, "input_audio_buffer.commit")
            await live.send_json(appended(second()))
            await live.send_json(appended(second()))
            await send(live, "input_audio_buffer.commit", final=True)
            told = await heard(live, "transcription.done")
            assert told[-1] == {"type": "transcription.done", "text": text, "usage": None}
            assert {event["type"] for event in told[:-1]} == {"transcription.delta"}
            assert "".join(event["delta"] for event in told[:-1]) == text
    assert [session.listening.options.whisper_model for session in sessions(client)] == [None, "large-v3"]
    await given_back(sessions(client)[-1])


async def test_vllms_errors_have_its_shape_and_the_session_goes_on(begin: Any) -> None:
    client = await begin()
    async with client.ws_connect("/v1/realtime") as live:
        for message in ({"type": "session.update", "model": "absent"}, {"type": "session.update", "model": 3},
                        {"type": "input_audio_buffer.append", "audio": "?"}, {"type": "response.create"}):  # fmt: skip
            await live.send_json(message)
            told = (await heard(live, "error"))[-1]
            assert isinstance(told["error"], str)
            assert isinstance(told["code"], str)
        await live.send_json(appended(second()))
        await send(live, "input_audio_buffer.commit", final=True)
        assert (await heard(live, "transcription.done"))[-1]["text"] == "Word0,"


# All of them


async def test_a_limit_of_sessions_is_answered_before_the_handshake(begin: Any) -> None:
    client = await begin(most=1)
    for path in PATHS:
        async with client.ws_connect(path):
            with pytest.raises(WSServerHandshakeError) as refused:
                await client.ws_connect(path)
            assert refused.value.status == 429
        await given_back(sessions(client)[-1])
    assert len(sessions(client)) == 3


async def test_what_is_no_websocket_is_told_so(begin: Any) -> None:
    client = await begin()
    for path in PATHS:
        answer = await client.get(path)
        assert (answer.status, answer.headers["Upgrade"]) == (426, "websocket")
        answer = await client.get(path, headers={**HANDSHAKE, "Sec-WebSocket-Protocol": "soap"})
        assert answer.status == 400
    assert sessions(client) == []


async def test_keys_and_roles_are_checked_and_the_owner_is_the_keys(begin: Any) -> None:
    keys = [{"name": "one", "role": "submit", "key": KEY}, {"name": "two", "role": "read", "key": KEY[:-1] + "r"}]
    client = await begin(access={"keys": keys}, most=9)
    ways: list[dict[str, Any]] = [
        {"headers": {"Authorization": f"Token {KEY}"}},
        {"protocols": ["token", KEY]},  # what browsers can send
        {"protocols": ["realtime", f"openai-insecure-api-key.{KEY}"]},
    ]
    for path in PATHS:
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {KEY[:-1]}r"}, 403)):
            with pytest.raises(WSServerHandshakeError) as refused:
                await client.ws_connect(path, headers=headers)
            assert refused.value.status == status
        for way in ways:
            async with client.ws_connect(path, **way) as live:
                assert live.protocol in (None, "token", "realtime")
    assert len(sessions(client)) == 9
    [owner] = {session.owner for session in sessions(client)}
    assert owner


async def test_web_pages_of_others_open_nothing_where_there_are_no_keys(begin: Any) -> None:
    client = await begin()
    for path in PATHS:
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            with pytest.raises(WSServerHandshakeError) as refused:
                await client.ws_connect(path, headers=headers)
            assert refused.value.status == 403
        async with client.ws_connect(path, headers={"Origin": str(client.make_url("")).rstrip("/")}):
            pass
    assert len(sessions(client)) == 3


async def send_audio(socket: Socket, path: str, data: bytes) -> None:
    if path == REALTIME:
        await socket.send_json(appended(data))
    else:
        await socket.send_bytes(data)


async def test_whoever_goes_gives_the_session_back(begin: Any) -> None:
    client = await begin()
    for path, stage in product(PATHS, ("greeted", "listening", "finished", "in a message")):
        live = await client.ws_connect(path)
        if stage != "greeted":
            await send_audio(live, path, second(rate=24_000 if path == REALTIME else 16_000))
        if stage == "finished":
            await send(live, {NATIVE: "finish", LISTEN: "CloseStream", REALTIME: "input_audio_buffer.clear"}[path])
        transport = live._writer.transport
        if stage == "in a message":
            transport.write(b"\x82\xfe\x10\x00abcd")  # the header of 4 kB that never come
        transport.abort()
        await given_back(sessions(client)[-1])


async def test_a_session_that_breaks_is_told(begin: Any) -> None:
    client = await begin()
    for path, (order, code) in product(PATHS, ((BREAK, 1013), (FAIL, 1011))):
        async with client.ws_connect(path) as live:
            if path == REALTIME:
                await live.send_json(transcription(format={"type": "audio/pcm", "rate": 16_000}))
            await send_audio(live, path, second(order))
            told = await heard(live)
        assert told[-1]["type"].lower() == "error"
        assert live.close_code == code
        await given_back(sessions(client)[-1])


async def test_who_does_not_read_is_told_and_does_not_fill_the_memory(
    begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diarserve.http.live.conversation._PATIENCE", 2.0)
    client = await begin()
    host, port = client.host, client.port
    request = f"GET {NATIVE} HTTP/1.1\r\nHost: {host}:{port}\r\n"
    request += "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items()) + "\r\n"
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, (host, port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=1024)
    writer.write(request.encode())
    await reader.readuntil(b"\r\n\r\n")
    data = second(FLOOD)
    writer.write(b"\x82\xff" + len(data).to_bytes(8) + bytes(4) + data)
    [session] = sessions(client)
    await given_back(session)
    everything = await reader.read()
    assert (1013).to_bytes(2) in everything[-200:]
    writer.close()


# The official clients


async def test_deepgrams_own_client(begin: Any) -> None:
    client = await begin()

    def live(url: str) -> list[Any]:
        with (
            deepgram_client.connected(url) as there,
            there.listen.v1.connect(
                model="nova-3",
                encoding="linear16",
                sample_rate=16_000,
                diarize=True,
                interim_results=True,
                punctuate=True,
                utterance_end_ms=1000,
                vad_events=True,
            ) as connection,
        ):
            connection.send_media(second() + second(PAUSE))
            connection.send_keep_alive()
            connection.send_finalize()
            connection.send_media(second())
            connection.send_close_stream()
            return list(connection)

    told = await asyncio.to_thread(live, str(client.make_url("")).rstrip("/"))
    for message in told:
        type(message).model_validate(message.model_dump())  # the package does not validate what comes
    assert {type(message).__name__ for message in told} == {
        "ListenV1Results",
        "ListenV1SpeechStarted",
        "ListenV1UtteranceEnd",
        "ListenV1Metadata",
    }
    words = [word for one in told if getattr(one, "is_final", False) for word in one.channel.alternatives[0].words]
    assert [(word.punctuated_word, word.speaker) for word in words] == [("Word0,", 0), ("Word1,", 1), ("Word2,", 0)]


async def test_openais_own_client(begin: Any) -> None:
    client = await begin()
    told: list[Any] = []
    async with (
        openai.AsyncOpenAI(base_url=str(client.make_url("/v1")), api_key="none") as there,
        there.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        await connection.session.update(
            session={
                "type": "transcription",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 24_000},
                        "transcription": {"model": "gpt-4o-transcribe-diarize", "language": "en"},
                        "turn_detection": None,
                    }
                },
            }
        )
        for _ in range(3):
            await connection.input_audio_buffer.append(audio=base64.b64encode(second(rate=24_000)).decode())
        await connection.input_audio_buffer.commit()
        async for event in connection:
            told.append(event)
            if event.type == "conversation.item.input_audio_transcription.completed":
                break
    for event in told:
        type(event).model_validate(event.model_dump())
    assert told[-1].transcript == "".join(getattr(event, "delta", None) or "" for event in told)
    segments = [event for event in told if event.type.endswith("transcription.segment")]
    assert [segment.speaker for segment in segments] == ["A", "B", "A"][: len(segments)]
    assert len(segments) >= 2  # the resampler holds back the end of the third second


# Sessions that are none of the stand-ins'


async def test_each_protocol_with_a_session_of_the_server(start: Start) -> None:
    client = await start()
    said = b"".join(struct.pack("<h", value) * 16_000 for value in (1, 2, 0, 1))  # words, silence, a word
    async with client.ws_connect(NATIVE) as live:
        await live.send_bytes(said)
        await send(live, "finish")
        told = await heard(live)
    assert [word["word"] for one in told if one["type"] == "final" for word in one["words"]] == ["w1", "w2", "w1"]
    assert [told[-2]["type"], told[-1]["type"]] == ["spoken", "done"]
    answer = await client.get(f"/api/v1/parallel/result/{told[0]['task_id']}")
    assert (await answer.json())["text"] == told[-1]["document"]["text"]
    async with client.ws_connect(f"{LISTEN}&diarize=true") as live:
        await live.send_bytes(said)
        await send(live, "Finalize")
        await send(live, "CloseStream")
        told = await heard(live)
    assert [word["word"] for one in told[:-1] for word in words_of(one)] == ["w1", "w2", "w1"]
    assert [word["speaker"] for one in told[:-1] for word in words_of(one)] == [0, 1, 0]
    assert told[-1]["type"] == "Metadata"
    async with client.ws_connect(REALTIME) as live:
        await live.send_json(transcription(format={"type": "audio/pcm", "rate": 16_000}, turn_detection=None))
        for piece in (said[:64_000], said[64_000:]):
            await live.send_json(appended(piece))
            await send(live, "input_audio_buffer.commit")
        first = await heard(live, "conversation.item.input_audio_transcription.completed")
        then = await heard(live, "conversation.item.input_audio_transcription.completed")
    assert (first[-1]["transcript"], then[-1]["transcript"]) == ("w1 w2", "w1")
    await until(lambda: not len(client.app[LIVE]) and not spool(client))


# Frames that nobody would send

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TYPES = [
    *("finalize", "keepalive", "KeepAlive", "Finalize", "session.update", "transcription_session.update"),
    *("input_audio_buffer.append", "input_audio_buffer.commit", "input_audio_buffer.clear"),
]
FRAMES = (
    st.binary(max_size=200)
    | st.text(max_size=20)
    | JSON.map(lambda value: json.dumps(value, default=str))
    | st.builds(
        lambda type, session, audio: json.dumps({"type": type, "session": session, "audio": audio}),
        st.sampled_from(TYPES),
        JSON
        | st.builds(lambda value: {"audio": {"input": value}}, JSON)
        | st.builds(
            lambda name, value: {"audio": {"input": {name: value}}},
            st.sampled_from(["format", "transcription", "turn_detection", "noise_reduction"]),
            JSON,
        ),
        JSON | st.binary(max_size=50).map(lambda data: base64.b64encode(data).decode()),
    )
)


@given(st.lists(FRAMES, max_size=12), st.sampled_from(PATHS))
@fuzzed(max_examples=300, deadline=None, derandomize=True)
def test_whatever_comes_is_heard_or_refused(frames: list[bytes | str], path: str) -> None:
    async def talk() -> None:
        sessions, sent = StandInSessions(), []

        def opened(options: LiveOptions) -> Any:
            return sessions.open(options)

        async def sends(message: object) -> None:
            sent.append(json.loads(msgspec.json.encode(message)))

        session = opened(LiveOptions())
        samples = SampleStream("pcm_s16le", 16_000, 1)
        parameters = deepgram.LiveParameters(encoding="linear16")
        dialect: native.Native | deepgram.Deepgram | realtime.Realtime
        if path == NATIVE:
            dialect = native.Native(session, intake.Either(session, samples))
        elif path == LISTEN:
            dialect = deepgram.Deepgram(session, parameters, parameters.intake(session), "id", "tiny")
        else:
            dialect = realtime.Realtime(session, opened, (), old=False)
        for frame in frames:
            try:
                await dialect.hear(frame, sends)
            except ServiceError as error:
                await sends(dialect.refuse(error))
                assert sent[-1]["type"].lower() == "error"

    asyncio.run(talk())
