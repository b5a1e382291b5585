"""Speakers who are known by references that come with a request, over HTTP, on stand-ins."""

from __future__ import annotations

import pytest
from aiohttp import FormData

from tests.support.app import API, TRANSCRIBE, Start, document, error, folders, form, reached, wav
from tests.support.voices import speaking, url


def request(*known: tuple[str, bytes | str], **fields: str) -> FormData:
    """Four seconds of two speakers, (1, 0) and (0, 1), with references of the known ones."""
    made = form(wav(4), **fields)
    for name, reference in known:
        made.add_field("known_speaker_names[]", name)
        made.add_field("known_speaker_references[]", reference if isinstance(reference, str) else url(reference))
    return made


async def test_a_known_speaker_is_named_and_the_other_is_not(start: Start) -> None:
    client = await start()
    shown = await document(client, request(("Ann", speaking("0,1")), ("Cid", speaking("-1,0.1"))))
    assert shown["speakers"] == ["Ann", "SPEAKER_00"]
    assert {turn["speaker"] for turn in shown["turns"]} == {"Ann", "SPEAKER_00"}
    assert {word["speaker"] for part in shown["segments"] for word in part["words"]} == {"Ann", "SPEAKER_00"}
    nobody, ann = shown["speaker_matches"]
    assert (ann["speaker"], ann["diarized"], ann["name"]) == ("Ann", "SPEAKER_01", "Ann")
    assert ann["confidence"] > 0.9
    assert (nobody["speaker"], nobody["name"]) == ("SPEAKER_00", None)
    assert [candidate["name"] for candidate in nobody["candidates"]] == ["Ann", "Cid"]
    assert all(candidate["confidence"] < 0.1 for candidate in nobody["candidates"])
    assert "speaker_embeddings" not in shown
    rttm = await client.post(TRANSCRIBE, data=request(("Ann", speaking("0,1")), response_format="rttm"))
    assert "<NA> <NA> Ann <NA> <NA>" in await rttm.text()
    assert folders(client) == set()


async def test_references_may_be_files_and_embeddings_are_returned(start: Start) -> None:
    client = await start()
    made = form(wav(4), speaker_embeddings="true", known_speaker_names="Ann")
    made.add_field("known_speaker_references", speaking("1,0"), filename="ann.wav")
    shown = await document(client, made)
    assert shown["speakers"] == ["Ann", "SPEAKER_01"]
    assert [(one["speaker"], one["embedding"], one["model"]) for one in shown["speaker_embeddings"]] == [
        ("Ann", [1.0, 0.0], "stand-in"),
        ("SPEAKER_01", [0.0, 1.0], "stand-in"),
    ]
    plain = await document(client, form(wav(4)))
    assert "speaker_matches" not in plain


WRONG = [
    ("no data URL", "aGVsbG8=", 400, "invalid_request"),
    ("no base64", "data:audio/wav;base64,!!!!", 400, "invalid_request"),
    ("not whole", "data:audio/wav;base64,UklGR", 400, "invalid_request"),
    ("no recording", url(b"hello there, this is text"), 415, "unsupported_media"),
    ("no bytes", "data:audio/wav;base64,", 400, "invalid_request"),
    ("too short", url(wav(1)), 400, "reference_length"),
    ("too long", url(wav(11)), 400, "reference_length"),
    ("one without a voice", url(speaking("clipped", "0,1", "1,0", "1,1", "1,2", "1,3", "1,4", "1,5", seconds=5)), 422,
     "too_little_speech"),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "status", "code"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
async def test_a_wrong_reference_is_refused(start: Start, reference: str, status: int, code: str) -> None:
    client = await start()
    answer = await client.post(TRANSCRIBE, data=request(("Ann", reference)))
    told = (await answer.json())["error"]
    assert (answer.status, told["code"], told["param"]) == (status, code, "known_speaker_references")
    assert folders(client) == set()


@pytest.mark.parametrize("names", [["Ann", "Ann"], ["SPEAKER_01"], ["x" * 101], ["A\nB"], list("ABCDE")])
async def test_a_wrong_name_is_refused(start: Start, names: list[str]) -> None:
    client = await start()
    answer = await client.post(TRANSCRIBE, data=request(*((name, speaking("0,1")) for name in names)))
    assert await error(answer) == (400, "invalid_request")
    assert folders(client) == set()


async def test_names_and_references_must_be_as_many(start: Start) -> None:
    client = await start()
    assert await error(await client.post(TRANSCRIBE, data=form(wav(), known_speaker_names="Ann"))) == (
        400,
        "invalid_request",
    )


async def test_references_outlive_the_server_and_go_with_their_task(start: Start) -> None:
    client = await start(wait=False, embedded={"boot": "hang"})
    answer = await client.post(f"{TRANSCRIBE}/async", data=request(("Ann", speaking("0,1"))))
    assert answer.status == 202, await answer.text()
    id = (await answer.json())["task_id"]
    await client.close()
    again = await start()
    await reached(again, id, "completed")
    shown = await (await again.get(f"{API}/result/{id}")).json()
    assert shown["speakers"] == ["Ann", "SPEAKER_00"]
    assert folders(again) == set()


async def test_every_recording_of_a_batch_has_the_references(start: Start) -> None:
    client = await start()
    made = form(wav(4), wav(5))
    made.add_field("known_speaker_names", "Ann")
    made.add_field("known_speaker_references", url(speaking("1,0")))
    results = (await (await client.post(f"{API}/batch", data=made)).json())["results"]
    assert [result["speakers"] for result in results] == [["Ann", "SPEAKER_01"]] * 2


async def test_without_a_lane_that_embeds_a_warning_says_so(start: Start) -> None:
    client = await start(embedded=None, clustering={"engine": "tests.support.standins:Diarizer"})
    shown = await document(client, request(("Ann", speaking("0,1"))))
    assert shown["speakers"] == ["SPEAKER_00", "SPEAKER_01"]
    assert any("known voices are not available" in warning for warning in shown["warnings"])


async def test_another_diarizer_s_speakers_are_compared_in_the_lane_that_embeds(start: Start) -> None:
    engine = {"engine": "tests.support.standins:Diarizer"}
    client = await start(embedded=None, clustering=engine, embed=engine)
    shown = await document(client, request(("Ann", speaking("0,1"))))
    assert shown["speakers"] == ["Ann", "SPEAKER_00"]
