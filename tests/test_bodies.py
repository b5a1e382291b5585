"""Recordings that are the whole body, answers that are compressed, and the names of transcripts as files."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from diarserve.http.compression import takes_gzip
from tests.support.app import API, TRANSCRIBE, Client, Start, error, form, reached, spool, wav

RAW = {"Content-Type": "audio/wav"}
LONG = 100  # seconds: JSON of some 20 KiB


@pytest.mark.parametrize("kind", ["audio/wav", "application/octet-stream", "video/mp4", ""])
async def test_the_body_may_be_the_recording(start: Start, kind: str) -> None:
    client = await start()
    headers = {"Content-Type": kind, "Content-Disposition": 'attachment; filename="../a/call.wav"'}
    skip = () if kind else ("Content-Type",)
    headers = {name: value for name, value in headers.items() if value}
    asked = {"language": "de", "max_speakers": "2"}
    answer = await client.post(TRANSCRIBE, params=asked, data=wav(2), headers=headers, skip_auto_headers=skip)
    heard = await answer.json()
    assert (heard["text"], heard["language"], heard["filename"]) == ("w0 w1", "de", "call.wav")
    queued = await client.post(f"{TRANSCRIBE}/async", data=wav(2), headers=RAW)
    assert (await reached(client, (await queued.json())["task_id"], "completed"))["filename"] == "audio"


async def test_a_body_that_is_no_recording_is_refused_and_leaves_nothing(start: Start) -> None:
    client = await start()
    for data, kind, status, code in (
        (b"no recording", "audio/wav", 415, "unsupported_media"),
        (wav(1), "text/plain", 400, "invalid_request"),
        (wav(1), "application/x-www-form-urlencoded", 400, "invalid_request"),
        (b"", "audio/wav", 400, "invalid_request"),
        (wav(1, "refuse whisper"), "audio/wav", 422, "undecodable"),
    ):
        answer = await client.post(TRANSCRIBE, data=data, headers={"Content-Type": kind})
        assert await error(answer) == (status, code)
        assert spool(client) == []
    unknown = await client.post(TRANSCRIBE, params={"nonsense": "1"}, data=wav(1), headers=RAW)
    assert await error(unknown) == (400, "invalid_request")
    batch = await client.post(f"{API}/batch", data=wav(1), headers=RAW)
    assert await error(batch) == (400, "invalid_request")


async def raw_answer(client: Client, path: str, accepted: str = "") -> tuple[dict[str, str], bytes]:
    """The head and the body as they are sent."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    accept = f"Accept-Encoding: {accepted}\r\n" if accepted else ""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{accept}\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    headers = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:] if line)
    }
    body = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    return headers, body


async def test_long_answers_are_compressed_for_those_who_take_it(start: Start) -> None:
    client = await start()
    task = (await (await client.post(f"{TRANSCRIBE}/async", data=form(wav(LONG)))).json())["task_id"]
    await reached(client, task, "completed")
    plain, whole = await raw_answer(client, f"{API}/result/{task}")
    assert "content-encoding" not in plain
    assert len(whole) > 8192
    packed, small = await raw_answer(client, f"{API}/result/{task}", "br, gzip")
    assert (packed["content-encoding"], packed["vary"], plain["vary"]) == ("gzip",) + ("Accept-Encoding",) * 2
    assert len(small) < len(whole) / 3
    assert json.loads(gzip.decompress(small)) == json.loads(whole)
    short, _ = await raw_answer(client, f"{API}/status/{task}", "gzip")
    assert "content-encoding" not in short


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("", False), ("gzip", True), ("deflate, GZIP;q=0.5", True), ("*", True), ("identity", False),
        ("gzip;q=0", False), ("gzip; q=0.000, *", False), ("*;q=0", False), ("x-gzip", True), ("gzip;q=1.0", True),
    ],
)  # fmt: skip
def test_who_takes_gzip(accepted: str, taken: bool) -> None:
    assert takes_gzip(accepted) is taken


async def test_transcripts_have_a_name_to_be_saved_under(start: Start) -> None:
    client = await start()

    async def name(answer: Any) -> tuple[str, str]:
        assert answer.status == 200
        disposition = answer.content_disposition
        assert disposition.type == "inline"
        return str(answer.headers["Content-Disposition"]), str(disposition.filename)

    headers = {**RAW, "Content-Disposition": "attachment; filename*=UTF-8''Gespr%C3%A4ch%20%221%22.m4a"}
    said = await name(await client.post(TRANSCRIBE, params={"format": "srt"}, data=wav(1), headers=headers))
    assert said[1] == 'Gespräch "1".srt'
    assert 'filename="Gespr_ch _1_.srt"; ' in said[0]
    queued = await client.post(f"{TRANSCRIBE}/async", data=form(wav(1)))
    task = (await queued.json())["task_id"]
    await reached(client, task, "completed")
    for format, expected in (("json", "call 0.json"), ("text", "call 0.txt"), ("rttm", "call 0.rttm")):
        found = await name(await client.get(f"{API}/result/{task}", params={"format": format}))
        assert found[1] == expected
