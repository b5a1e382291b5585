"""Live sessions without HTTP: the service in this process, stand-in engines in real worker processes."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diarserve.core.errors import Busy, RateLimited, TooLarge
from diarserve.core.options import Options
from diarserve.live.events import Broken, Correction, Ended, Event, Final, Interim, SpeechStarted, UtteranceEnd
from diarserve.live.options import LiveOptions
from diarserve.live.session import LiveSession
from diarserve.live.sessions import LiveSessions
from tests.support.app import Start, folders, jobs, service
from tests.support.encode import encode
from tests.support.waiting import until
from workers.media.samples import PCM_SCALE
from workers.messages import SAMPLE_RATE


def seconds(*values: int) -> bytes:
    return b"".join(struct.pack("<h", value) * SAMPLE_RATE for value in values)


class Reader:
    """Reads a session's events as they come."""

    def __init__(self, session: LiveSession) -> None:
        self.events: list[Event] = []
        self.done = asyncio.create_task(self._read(session))

    async def _read(self, session: LiveSession) -> None:
        async for event in session.events():
            self.events.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def words(self) -> list[str]:
        """The final ones, each with the number that it was told with."""
        finals = self.of(Final)
        return [f"{final.first + at} {word.word}" for final in finals for at, word in enumerate(final.words)]

    @property
    def speakers(self) -> list[str]:
        """Of the final words, corrected."""
        speakers = [word.speaker for final in self.of(Final) for word in final.words]
        for correction in self.of(Correction):
            speakers[correction.first : correction.past] = [correction.speaker] * (correction.past - correction.first)
        return speakers


def numbered(*values: int) -> list[str]:
    return [f"{number} w{value}" for number, value in enumerate(values)]


async def test_words_come_with_speakers_and_the_whole_is_a_task_at_the_end(start: Start) -> None:
    client = await start()
    session = LiveSessions(service(client)).open(LiveOptions(), owner="somebody")
    reader = Reader(session)
    await session.append(seconds(1, 2)[:-1])
    await session.append(seconds(2)[-1:] + seconds(0, 1))
    await session.finish()
    await reader.done
    assert reader.words == numbered(1, 2, 1)
    assert reader.speakers == ["SPEAKER_01", "SPEAKER_02", "SPEAKER_01"]
    assert [(end.utterance, end.time, end.finalized) for end in reader.of(UtteranceEnd)] == [(0, 2.0, False)]
    assert [final.utterance for final in reader.of(Final)] == [0, 0, 1]
    [ended] = reader.of(Ended)
    assert isinstance(reader.events[-1], Ended)
    assert (ended.document.task_id, ended.document.duration) == (session.task_id, 4.0)
    answer = await client.get(f"/api/v1/parallel/result/{session.task_id}")
    assert answer.status == 200
    assert (await answer.json())["text"] == ended.document.text
    row = await service(client).store.get(session.task_id)
    assert row is not None
    assert row.owner == "somebody"
    assert folders(client) == set()


async def test_a_speaker_is_corrected_by_an_event_and_never_silently(start: Start) -> None:
    client = await start()
    session = LiveSessions(service(client)).open(LiveOptions())
    reader = Reader(session)
    await session.append(seconds(101, 102, 103, 4))
    await session.finish()
    await reader.done
    assert reader.speakers == ["SPEAKER_01", "SPEAKER_02", "SPEAKER_03", "SPEAKER_04"]
    await session.close()


async def test_speakers_are_followed_by_a_diarizer_that_can_tell_so_many_apart(start: Start) -> None:
    client = await start(sortformer={"engine": "tests.support.standins:Diarizer", "limits": {"max_speakers": 4}})
    sessions = LiveSessions(service(client))
    for expected, lane in ((None, "sortformer"), (4, "sortformer"), (5, "embedded")):
        session = sessions.open(LiveOptions(Options(num_speakers=expected), keep=False))
        await session.append(seconds(1))
        lanes = service(client).lanes_state()
        assert {name for name in ("embedded", "sortformer") if lanes[name]["workers"][0]["jobs"]} == {lane}
        await session.close()
        await until(lambda: jobs(client) == 0)


async def test_words_do_not_wait_for_speakers_once_the_diarizer_has_failed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diarserve.live.labels.PATIENCE", 3600.0)
    client = await start(embedded={"engine": "tests.support.standins:Aligner", "limits": {"live": True}})
    session = LiveSessions(service(client)).open(LiveOptions(keep=False))
    reader = Reader(session)
    await session.append(seconds(1, 2))
    await until(lambda: reader.words == numbered(1, 2))
    assert reader.speakers == ["UNKNOWN"] * 2
    await session.close()


async def test_finalize_makes_words_final_and_the_session_goes_on(start: Start) -> None:
    client = await start()
    session = LiveSessions(service(client)).open(LiveOptions(interim=False, keep=False))
    reader = Reader(session)
    await session.append(seconds(1) + seconds(2)[:8000])
    await session.finalize()
    await until(lambda: reader.of(UtteranceEnd))
    assert reader.words == numbered(1, 2)
    assert reader.of(UtteranceEnd) == [UtteranceEnd(0, 1.25, finalized=True)]
    await session.append(seconds(0)[:24000] + seconds(3))
    await session.finish()
    await reader.done
    assert reader.words == numbered(1, 2, 2, 3)  # the stand-in says a word for each part of a second
    assert reader.of(Interim) == []
    assert await service(client).store.get(session.task_id) is None  # it was not to be kept


async def test_workers_of_both_kinds_die_and_the_client_sees_a_pause(start: Start) -> None:
    client = await start()
    session = LiveSessions(service(client)).open(LiveOptions())
    reader = Reader(session)
    said = [1, 2, 3, 2, 1, 2]
    for count, value in enumerate(said, 1):
        await session.append(seconds(value))
        await until(lambda count=count: len(reader.words) == count)  # type: ignore[misc]
        for lane in ("whisper", "embedded") if count % 2 else ("embedded",):
            [worker] = service(client).lanes_state()[lane]["workers"]
            if worker["pid"]:
                os.kill(worker["pid"], signal.SIGKILL)
    await session.finish()
    await reader.done
    assert reader.words == numbered(*said)
    assert reader.speakers == [f"SPEAKER_0{value}" for value in said]
    assert isinstance(reader.events[-1], Ended)


@pytest.mark.parametrize("stage", ["opened", "appended", "finishing"])
async def test_a_client_that_goes_gives_everything_back(start: Start, stage: str) -> None:
    client = await start()
    sessions = LiveSessions(service(client))
    session = sessions.open(LiveOptions(keep=False))
    if stage != "opened":
        await session.append(seconds(1, 2))
    if stage == "finishing":
        await session.finish()
    await session.close()
    await session.close()
    assert [event async for event in session.events() if isinstance(event, Broken)] == []
    assert (len(sessions), jobs(client)) == (0, 0)
    await until(lambda: folders(client) == set())


async def test_there_are_no_more_sessions_than_may_be(start: Start) -> None:
    client = await start(live={"max_sessions": 1})
    sessions = LiveSessions(service(client))
    session = sessions.open(LiveOptions())
    with pytest.raises(Busy):
        sessions.open(LiveOptions())
    await session.close()
    await sessions.open(LiveOptions()).close()


async def test_a_session_is_no_longer_than_it_may_be(start: Start) -> None:
    client = await start(live={"max_seconds": 2})
    session = LiveSessions(service(client)).open(LiveOptions())
    reader = Reader(session)
    await session.append(seconds(1, 2))
    with pytest.raises(TooLarge):
        await session.append(seconds(3))
    await session.finish()
    await reader.done
    assert reader.words == numbered(1, 2)
    assert isinstance(reader.events[-1], Ended)


async def test_a_session_is_counted_among_the_audio_hours_of_its_owner(start: Start) -> None:
    client = await start()
    sessions, audio = LiveSessions(service(client)), service(client).audio
    first = sessions.open(LiveOptions(keep=False), "somebody", hours=3 / 3600)
    await first.append(seconds(1))
    assert audio.used("somebody") == 1
    await first.close()  # without a document: it was heard
    assert audio.used("somebody") == 1
    second = sessions.open(LiveOptions(), "somebody", hours=3 / 3600)
    reader = Reader(second)
    await second.append(seconds(1, 2))
    with pytest.raises(RateLimited):
        await second.append(seconds(3))
    await second.finish()
    await reader.done
    assert reader.words == numbered(1, 2)
    assert audio.used("somebody") == 3
    with pytest.raises(RateLimited):
        sessions.open(LiveOptions(), "somebody", hours=3 / 3600)
    await sessions.open(LiveOptions(), "another", hours=3 / 3600).close()
    assert (len(sessions), folders(client)) == (0, set())


async def test_a_session_without_audio_for_too_long_ends_and_says_why(start: Start) -> None:
    client = await start(live={"idle_timeout": 0.01})
    session = LiveSessions(service(client)).open(LiveOptions())
    reader = Reader(session)
    await reader.done
    [broken] = reader.of(Broken)
    assert (broken.error.status, broken.error.code) == (408, "live_idle")
    assert folders(client) == set()
    with pytest.raises(type(broken.error)):
        await session.append(seconds(1))


async def test_events_that_nobody_reads_end_the_session(start: Start) -> None:
    client = await start()
    session = LiveSessions(service(client)).open(LiveOptions())
    for _ in range(600):
        session._outbox.put(SpeechStarted(0.0))
        session._outbox.put(UtteranceEnd(0, 0.0))
    session._put(SpeechStarted(1.0))
    events = [event async for event in session.events()]
    assert isinstance(events[-1], Broken)
    assert events[-1].error.code == "slow_reader"


def recording(tmp_path: Path, *values: int, form: str = "wav", codec: str = "pcm_s16le") -> bytes:
    """As `seconds`, in a container and without loss."""
    samples = np.frombuffer(seconds(*values), "<i2") * PCM_SCALE
    return encode(tmp_path / "recording", form, codec, samples).read_bytes()


DECODER = {"decode": {"engine": "decoder"}}


async def test_a_recording_that_arrives_in_pieces_is_heard_as_it_comes(start: Start, tmp_path: Path) -> None:
    client = await start(**DECODER)
    session = LiveSessions(service(client)).open(LiveOptions())
    reader = Reader(session)
    data = recording(tmp_path, 1, 2, 3, 0, 4, 0)
    for at in range(0, len(data), 5000):
        await session.append_recording(data[at : at + 5000])
    await until(lambda: reader.words == numbered(1, 2, 3, 4))
    await session.finish()
    await reader.done
    [ended] = reader.of(Ended)
    assert ended.document.duration == 6.0
    assert folders(client) == set()


async def test_a_decoder_that_dies_is_not_noticed(start: Start, tmp_path: Path) -> None:
    client = await start(**DECODER)
    session = LiveSessions(service(client)).open(LiveOptions())
    reader = Reader(session)
    said = [1, 2, 3, 4, 5, 6]
    data = recording(tmp_path, *said)
    for at in range(0, len(data), len(data) // 3):
        await session.append_recording(data[at : at + len(data) // 3])
        [worker] = service(client).lanes_state()["decode"]["workers"]
        os.kill(worker["pid"], signal.SIGKILL)
    await session.finish()
    await reader.done
    assert reader.words == numbered(*said)
    assert session.seconds == 6.0


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"no recording " * 10, (415, "unsupported_media")),
        (b"OggS" + bytes(50_000), (422, "undecodable")),
        (b"OggS", (422, "undecodable")),
    ],
)
async def test_a_recording_that_is_none_ends_the_session_and_says_why(
    start: Start, data: bytes, error: tuple[int, str]
) -> None:
    client = await start(**DECODER)
    sessions = LiveSessions(service(client))
    session = sessions.open(LiveOptions())
    reader = Reader(session)
    await session.append_recording(data)
    await session.finish()
    await reader.done
    [broken] = reader.of(Broken)
    assert (broken.error.status, broken.error.code) == error
    assert (len(sessions), jobs(client), folders(client)) == (0, 0, set())


async def test_a_recording_is_no_longer_than_a_session_may_be(start: Start, tmp_path: Path) -> None:
    client = await start(live={"max_seconds": 12}, **DECODER)
    session = LiveSessions(service(client)).open(LiveOptions())
    reader = Reader(session)
    dense = recording(tmp_path, *[1] * 300, form="flac", codec="flac")
    with pytest.raises(TooLarge):
        await session.append_recording(dense)
    await session.finish()
    await reader.done
    [ended] = reader.of(Ended)
    assert ended.document.duration <= 12
    assert (jobs(client), folders(client)) == (0, set())


@pytest.mark.parametrize("stage", ["begun", "behind", "finishing"])
async def test_who_goes_in_the_midst_of_a_recording_gives_everything_back(
    start: Start, tmp_path: Path, stage: str
) -> None:
    client = await start(live={"max_lag": 5}, **DECODER)
    sessions = LiveSessions(service(client))
    session = sessions.open(LiveOptions(keep=False))
    data = recording(tmp_path, *[1] * 60)
    feeding = asyncio.create_task(session.append_recording(data[:2000] if stage == "begun" else data))
    if stage != "behind":
        await feeding
    if stage == "finishing":
        await session.finish()
    await session.close()
    await asyncio.wait((feeding,))
    feeding.exception()
    assert (len(sessions), jobs(client)) == (0, 0)
    await until(lambda: folders(client) == set())
