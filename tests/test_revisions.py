"""What people change in finished transcripts: kept on the server, in every format."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from diarserve.core.errors import InvalidRequest
from diarserve.tasks import revisions
from diarserve.transcript.changes import Assign, Change, Correct, Edit, Rename, Restore, effective
from diarserve.transcript.channels import join_channels, turns_of
from diarserve.transcript.document import Document, SpeakerMatch, Turn, encode
from diarserve.transcript.draft import revised
from diarserve.transcript.formats import FORMATS, render
from diarserve.transcript.join import join
from tests.support.app import API, Client, Recording, Start, error, reached, service, submit
from tests.support.documents import document
from workers import messages

ANN, BOB = "SPEAKER_00", "SPEAKER_01"


def talk() -> Document:
    """Two people, joined as the pipeline does."""
    said = [(0.0, "Hello there."), (2.0, "Neither did I."), (4.0, "I heard a beat."), (6.0, "So?")]
    words = [
        messages.Word(f" {text}", start + index * 0.4, start + index * 0.4 + 0.3, 0.9)
        for start, sentence in said
        for index, text in enumerate(sentence.split())
    ]
    turns = [messages.Turn(start - 0.1, start + 1.7, (ANN, BOB)[number % 2]) for number, (start, _) in enumerate(said)]
    joined = join(words, turns, language="en")
    made = msgspec.structs.asdict(document()) | msgspec.structs.asdict(
        msgspec.convert(joined, _Joined, from_attributes=True)
    )
    return Document(**made)


class _Joined(msgspec.Struct):
    text: str
    speakers: tuple[str, ...]
    segments: tuple[Any, ...]
    turns: tuple[Any, ...]


def change(*edits: Edit) -> Document:
    return revised(talk(), edits, 1)


def said(document: Document) -> list[tuple[str, str]]:
    return [(segment.speaker, segment.text) for segment in document.segments]


def test_a_document_in_which_nothing_is_changed_is_the_same() -> None:
    assert msgspec.structs.replace(revised(talk(), [], 1), revision=UNSET) == talk()


def test_channels_without_changes_are_the_same() -> None:
    words = [messages.Word(f" w{n}", n * 0.7, n * 0.7 + 0.9, 0.9, channel=n % 2) for n in range(10)]
    turns = turns_of(words)
    joined = join_channels(words, turns, "en")
    made = Document(
        **msgspec.structs.asdict(document()) | {name: getattr(joined, name) for name in _Joined.__struct_fields__}
    )
    assert msgspec.structs.replace(revised(made, [], 1), revision=UNSET) == made
    renamed = revised(made, [Rename(ANN, "Ann")], 1)
    assert {segment.channel for segment in renamed.segments if segment.speaker == "Ann"} == {0}


def test_languages_without_spaces_stay_without() -> None:
    words = [messages.Word(text, n * 0.4, n * 0.4 + 0.4, 0.9, language="ja") for n, text in enumerate("こんにちは")]
    joined = join(words, [messages.Turn(0, 3, ANN)], language="ja")
    made = Document(
        **msgspec.structs.asdict(document()) | {name: getattr(joined, name) for name in _Joined.__struct_fields__}
    )
    assert revised(made, [Assign(0, 2, "Bo"), Assign(0, 2, ANN)], 1).text == "こんにちは"


def test_a_renamed_speaker_is_renamed_everywhere() -> None:
    match = SpeakerMatch(ANN, ANN, None, 0.0, 1.0, ())
    named = revised(msgspec.structs.replace(talk(), speaker_matches=(match,)), [Rename(ANN, "Zoë")], 1)
    assert named.revision == 1
    assert named.speakers == (BOB, "Zoë")
    assert named.speaker_matches is not UNSET
    assert (named.speaker_matches[0].speaker, named.speaker_matches[0].diarized) == ("Zoë", ANN)
    for format in FORMATS:
        body = render(named, format)[0].decode()
        assert ANN not in body.replace(f'"diarized":"{ANN}"', "")
        assert format == "ctm" or "Zoë" in body


def test_two_speakers_with_one_name_are_one() -> None:
    merged = change(Rename(BOB, ANN))
    assert merged.speakers == (ANN,)
    assert merged.text == talk().text
    apart = change(Rename(ANN, "A"), Rename(BOB, ANN), Rename("A", BOB))  # they change names
    assert [speaker for speaker, _ in said(apart)] == [BOB, ANN, BOB, ANN]


def test_words_are_given_to_another_speaker_and_take_their_time_along() -> None:
    moved = change(Assign(8, 9, "Carl"))
    assert said(moved)[2:] == [(ANN, "I heard a"), ("Carl", "beat."), (BOB, "So?")]
    assert moved.segments[3].words[0].speaker_confidence == 1.0
    assert moved.speakers == ("Carl", ANN, BOB)
    assert moved.turns[2:] == (Turn(3.9, 5.15, ANN), Turn(5.15, 5.7, "Carl"), Turn(5.9, 7.7, BOB))


def test_a_whole_segment_takes_its_whole_turn_along() -> None:
    moved = change(Assign(2, 5, ANN))
    assert said(moved)[1] == (ANN, "Neither did I. I heard a beat.")
    assert moved.turns[1] == Turn(1.9, 3.7, ANN)


def test_a_corrected_word_keeps_its_time_and_is_certain() -> None:
    corrected = change(Correct(8, 9, "beep."))
    before, after = talk().segments[2].words[3], corrected.segments[2].words[3]
    assert (after.word, after.start, after.end, after.probability) == ("beep.", before.start, before.end, 1.0)
    assert corrected.segments[2].text == "I heard a beep."
    assert "a beep." in corrected.text


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("I only heard a beep.", [4.0, 4.05, 4.4, 4.8, 5.2]),  # the new word shares the time of the one before
        ("Well, I heard a beat.", [4.0, 4.25, 4.4, 4.8, 5.2]),
        ("I heard it.", [4.0, 4.4, 4.8]),
        ("I", [4.0]),
    ],
)
def test_a_sentence_is_corrected_as_a_whole(text: str, times: Sequence[float]) -> None:
    segment = change(Correct(5, 9, text)).segments[2]
    assert segment.text == text
    assert [word.start for word in segment.words] == pytest.approx(times, abs=0.15)
    assert all(word.start < word.end for word in segment.words)
    assert [word.start for word in segment.words] == sorted(word.start for word in segment.words)


def test_words_without_text_go() -> None:
    assert change(Correct(0, 9, "")).text == "So?"
    assert change(Correct(0, 10, "  ")).segments == ()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Rename("Nobody", "Ann"), "no speaker 'Nobody'"),
        (Rename(ANN, "SPEAKER_07"), "without a name"),
        (Rename(ANN, "a\nb"), "printable"),
        (Assign(3, 3, ANN), "no words from 3"),
        (Assign(8, 11, ANN), "has 10"),
        (Assign(0, 1, " "), "printable"),
        (Correct(4, 3, "x"), "no words"),
        (Correct(0, 1, "x " * 2000), "At most 1000 words"),
    ],
)
def test_a_change_that_cannot_be_made_says_why(edit: Edit, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        change(edit)


def test_of_a_revision_nothing_before_a_restoration_counts() -> None:
    a, b, c = Rename("A", "B"), Rename("B", "C"), Rename("C", "D")
    assert effective([[a], [b, Restore(1), c], [Restore(0)], [a, Restore(2)]]) == [a, c]
    assert effective([[a], [Restore(0)], [b]]) == [b]
    with pytest.raises(InvalidRequest, match="no revision 2"):
        effective([[a], [Restore(2), Restore(0)]])


def test_a_state_is_restored() -> None:
    first, second, third = Rename("A", "1"), Rename("B", "2"), Rename("C", "3")
    history: list[list[Change]] = [[first], [second], [Restore(1)], [third], [Restore(0)]]
    assert [effective(history[:length]) for length in range(6)] == [
        [], [first], [first, second], [first], [first, third], [],
    ]  # fmt: skip
    with pytest.raises(InvalidRequest, match="no revision 1"):
        effective([[Restore(1)]])


async def finished(client: Client, recording: Recording) -> str:
    id = await submit(client, recording(3))
    await reached(client, id, "completed")
    return id


async def patch(client: Client, id: str, revision: int, *changes: Change) -> Any:
    body = msgspec.json.encode({"revision": revision, "changes": changes})
    return await client.patch(f"{API}/result/{id}", data=body, headers={"Content-Type": "application/json"})


async def test_a_revision_is_in_every_format_and_its_history_is_kept(start: Start, recording: Recording) -> None:
    client = await start()
    id = await finished(client, recording)
    untouched = await (await client.get(f"{API}/result/{id}")).read()
    answer = await patch(client, id, 0, Correct(0, 1, "Hi"), Rename(ANN, "Ann"))
    assert (answer.status, await answer.json()) == (200, {"task_id": id, "revision": 1})
    shown = await (await client.get(f"{API}/result/{id}")).json()
    assert (shown["revision"], "Ann" in shown["speakers"]) == (1, True)
    assert shown["text"].startswith("Hi")
    for format in ("text", "srt", "vtt", "stm", "tsv"):
        body = await (await client.get(f"{API}/result/{id}", params={"format": format})).text()
        assert "Ann" in body, format
        assert "Hi" in body, format
    assert (await patch(client, id, 1, Restore(0))).status == 200
    assert (await (await client.get(f"{API}/result/{id}")).json())["text"] == msgspec.json.decode(untouched)["text"]
    again = await (await client.get(f"{API}/result/{id}", params={"revision": "1"})).json()
    assert again == shown
    assert await (await client.get(f"{API}/result/{id}", params={"revision": "0"})).read() == untouched
    history = await (await client.get(f"{API}/result/{id}/revisions")).json()
    assert [one["revision"] for one in history["revisions"]] == [1, 2]
    assert history["revisions"][1]["changes"] == [{"type": "restore", "revision": 0}]


async def test_what_another_changed_meanwhile_is_not_overwritten(start: Start, recording: Recording) -> None:
    client = await start()
    id = await finished(client, recording)
    assert (await patch(client, id, 0, Rename(ANN, "Ann"))).status == 200
    assert await error(await patch(client, id, 0, Rename(ANN, "Bea"))) == (409, "revision_conflict")
    assert await error(await client.get(f"{API}/result/{id}", params={"revision": "2"})) == (404, "not_found")
    assert await error(await client.get(f"{API}/result/{id}", params={"revision": "x"})) == (400, "invalid_request")


async def test_a_wrong_revision_changes_nothing(start: Start, recording: Recording) -> None:
    client = await start()
    id = await finished(client, recording)
    assert await error(await patch(client, id, 0, Rename(ANN, "Ann"), Assign(0, 10_000, ANN))) == (
        400,
        "invalid_request",
    )
    for body in (b"", b"{", b"[]", b'{"revision": 0, "changes": [{"type": "rm"}]}', b'{"revision": 0, "changes": []}'):
        assert await error(await client.patch(f"{API}/result/{id}", data=body)) == (400, "invalid_request")
    large = b'{"revision": 0, "changes": [' + b" " * 300_000
    assert await error(await client.patch(f"{API}/result/{id}", data=large)) == (413, "too_large")
    assert (await (await client.get(f"{API}/result/{id}/revisions")).json())["revisions"] == []
    assert await error(await patch(client, "0" * 32, 0, Rename(ANN, "Ann"))) == (404, "not_found")
    failed = await submit(client, recording(1, "refuse whisper"))
    await reached(client, failed, "failed")
    assert (await patch(client, failed, 0, Rename(ANN, "Ann"))).status == 422


@pytest.mark.parametrize("how", ["deleted", "expired"])
async def test_revisions_go_with_the_transcript(start: Start, recording: Recording, how: str) -> None:
    client = await start()
    id = await finished(client, recording)
    assert (await patch(client, id, 0, Correct(0, 1, "Rumpelstilzchen"))).status == 200
    data = service(client).settings.data_dir
    assert _legible(data, "Rumpelstilzchen")
    if how == "deleted":
        assert (await client.delete(f"{API}/tasks/{id}")).status == 200
    else:
        await service(client).store.expire(older_than=1e12)
        assert (await patch(client, id, 1, Rename(ANN, "Ann"))).status == 410
        assert await service(client).store.revisions(id) == []
    assert not _legible(data, "Rumpelstilzchen")


def _legible(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def test_what_takes_long_to_apply_is_refused_and_never_holds_up_the_server(
    start: Start, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await start()
    id = await finished(client, recording)
    threads: list[threading.Thread] = []
    apply = revisions._apply

    def noted(body: bytes, changes: Sequence[bytes]) -> Document:
        threads.append(threading.current_thread())
        return apply(body, changes)

    monkeypatch.setattr(revisions, "_apply", noted)
    assert (await patch(client, id, 0, Assign(0, 2, ANN))).status == 200
    assert (await client.get(f"{API}/result/{id}")).status == 200
    assert len(threads) == 2
    assert threading.main_thread() not in threads
    monkeypatch.setattr(revisions, "MOST_WORDS", 5)
    assert await error(await patch(client, id, 1, *[Assign(0, 2, ANN)] * 2)) == (400, "invalid_request")
    monkeypatch.setattr(revisions, "MOST_BYTES", 300)
    assert await error(await patch(client, id, 1, *[Rename(ANN, ANN)] * 20)) == (400, "invalid_request")
    assert (await patch(client, id, 1, Rename(ANN, "Ann"))).status == 200


@pytest.mark.timeout(20)
def test_few_words_repeated_often_are_corrected_soon() -> None:
    """It took minutes."""
    edits = [Correct(0, 900, text * 300) for text in ("a b a ", "b a a ", "a b b ")]
    assert revised(document(("one two three " * 300, ANN)), edits * 10, 1).words == 900


def test_hours_are_revised_and_encoded() -> None:
    long = document(*[("one two three four five six seven eight", (ANN, BOB)[n % 2]) for n in range(5000)])
    edits: list[Edit] = [Rename(ANN, "Ann"), *(Correct(n, n + 1, "Eins") for n in range(0, 40_000, 400))]
    made = revised(long, edits, 3)
    assert made.words == 40_000
    assert encode(made).count(b"Eins") == 200 or made.text.count("Eins") == 100
