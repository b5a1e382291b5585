"""Voices that are kept: whose they are, what is refused, and that they can be deleted. On stand-ins."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from diarserve.core.configuration import ConfigError
from diarserve.core.settings import Settings, Voices
from diarserve.http import app
from diarserve.voices.encryption import cipher
from diarserve.voices.store import VoiceStore
from tests.support.app import API, TRANSCRIBE, Client, Start, document, error, folders, form, service, wav
from tests.support.voices import KEY, speaking

ON = {"voices": {"enabled": True, "key": KEY}}
VOICES = f"{API}/voices"
ANN, BO = "dsk_" + "a" * 43, "dsk_" + "b" * 43
KEYS = {
    "access": {"keys": [{"name": "ann", "role": "submit", "key": ANN}, {"name": "bo", "role": "submit", "key": BO}]}
}


def as_key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def enrolled(client: Client, name: str, *samples: bytes, key: str = "") -> dict[str, Any]:
    made = form(*samples)
    made.add_field("name", name)
    answer = await client.post(VOICES, data=made, headers=as_key(key) if key else None)
    assert answer.status == 201, await answer.text()
    voice: dict[str, Any] = await answer.json()
    return voice


async def test_a_voice_is_kept_for_its_key_alone(start: Start) -> None:
    client = await start(**ON, **KEYS)
    voice = await enrolled(client, "Ann", speaking("0,1"), speaking("0.1,1", seconds=8), key=ANN)
    assert (voice["name"], voice["model"], voice["seconds"]) == ("Ann", "stand-in", 13.0)
    listed = await (await client.get(VOICES, headers=as_key(ANN))).json()
    assert listed == {"voices": [voice]}
    assert await (await client.get(VOICES, headers=as_key(BO))).json() == {"voices": []}
    path = f"{VOICES}/{voice['voice_id']}"
    for method, at in (("GET", path), ("GET", f"{path}/export"), ("DELETE", path)):
        assert await error(await client.request(method, at, headers=as_key(BO))) == (404, "voice_not_found")
    more = await client.post(f"{path}/samples", data=form(speaking("0,1")), headers=as_key(BO))
    assert await error(more) == (404, "voice_not_found")

    async def speakers(key: str, known: str) -> Any:
        answer = await client.post(TRANSCRIBE, data=form(wav(4), known_voices=known), headers=as_key(key))
        return (await answer.json())["speakers"] if answer.status == 200 else await error(answer)

    assert await speakers(ANN, "true") == ["Ann", "SPEAKER_00"]
    assert await speakers(ANN, "Ann") == ["Ann", "SPEAKER_00"]
    assert await speakers(ANN, voice["voice_id"]) == ["Ann", "SPEAKER_00"]
    assert await speakers(ANN, "false") == ["SPEAKER_00", "SPEAKER_01"]
    assert await speakers(BO, "true") == ["SPEAKER_00", "SPEAKER_01"]
    assert await speakers(BO, "Ann") == (400, "voice_not_found")


async def test_a_deleted_voice_leaves_nothing(start: Start) -> None:
    client = await start(**ON)
    folder = service(client).settings.data_dir

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    voice = await enrolled(client, "Rumpelstilzchen", speaking("0.6,0.8"))
    id = voice["voice_id"]
    exported = await (await client.get(f"{VOICES}/{id}/export")).json()
    embedding = base64.b64decode(exported["samples"][0]["embedding"])
    assert (exported["name"], len(embedding)) == ("Rumpelstilzchen", 8)
    [stored] = [path for path in files() if id in path.name]
    encrypted = stored.read_bytes()
    secrets = [b"Rumpelstilzchen", embedding, exported["samples"][0]["embedding"].encode()]
    assert not any(secret in content for content in files().values() for secret in secrets)  # it is encrypted
    answer = await client.delete(f"{VOICES}/{id}")
    assert (answer.status, await answer.json()) == (200, voice)
    left = files()
    assert not any(id in str(path) or id.encode() in content for path, content in left.items())
    assert not any(part in content for content in left.values() for part in [*secrets, encrypted[20:60]])
    assert await error(await client.get(f"{VOICES}/{id}")) == (404, "voice_not_found")
    assert (await document(client, form(wav(4), known_voices="true")))["speakers"] == ["SPEAKER_00", "SPEAKER_01"]


SAMPLES = [
    (speaking("0,1", "1,0"), "several_speakers"),
    (speaking("0,1", seconds=2), "too_little_speech"),
    (speaking("0,1", "clipped"), "clipped"),
]


@pytest.mark.parametrize(("sample", "code"), SAMPLES, ids=[row[1] for row in SAMPLES])
async def test_a_sample_that_no_voice_is_known_by_is_refused(start: Start, sample: bytes, code: str) -> None:
    client = await start(**ON)
    made = form(sample)
    made.add_field("name", "Ann")
    assert await error(await client.post(VOICES, data=made)) == (422, code)
    assert (await (await client.get(VOICES)).json())["voices"] == []
    assert folders(client) == set()


async def test_a_voice_of_another_model_is_not_compared_until_it_is_enrolled_again(start: Start) -> None:
    client = await start(**ON, embedded={"limits": {"embeddings": "older"}})
    id = (await enrolled(client, "Ann", speaking("0,1")))["voice_id"]
    twice = form(speaking("0,1"))
    twice.add_field("name", "Ann")
    assert await error(await client.post(VOICES, data=twice)) == (422, "voice_exists")
    await client.close()
    again = await start(**ON)
    shown = await document(again, form(wav(4), known_voices="true"))
    assert shown["speakers"] == ["SPEAKER_00", "SPEAKER_01"]
    assert any("Ann was enrolled with another model" in warning for warning in shown["warnings"])
    answer = await again.post(f"{VOICES}/{id}/samples", data=form(speaking("0,1")))
    assert ((await answer.json())["model"], len((await answer.json())["samples"])) == ("stand-in", 1)
    assert (await document(again, form(wav(4), known_voices="true")))["speakers"] == ["Ann", "SPEAKER_00"]
    other = cipher(Voices(enabled=True, key=SecretStr(base64.b64encode(bytes(32)).decode())))
    with pytest.raises(ConfigError, match="another key"):
        VoiceStore(service(again).settings.data_dir / "voices", other, 10)


async def test_nothing_is_kept_unless_it_is_turned_on(start: Start, settings: Any) -> None:
    client = await start()
    assert await error(await client.get(VOICES)) == (404, "voices_disabled")
    assert await error(await client.post(TRANSCRIBE, data=form(wav(), known_voices="true"))) == (400, "voices_disabled")
    made: Settings = settings(voices={"enabled": True})
    with pytest.raises(ConfigError, match=r"there is no key.*openssl rand"):
        app.make(made)
    with pytest.raises(ConfigError, match="32 bytes in base64"):
        app.make(settings(voices={"enabled": True, "key": "secret"}))


async def test_keys_in_a_file_are_replaced_by_adding_one_before(start: Start, tmp_path: Path) -> None:
    file, new = tmp_path / "voices.key", base64.b64encode(bytes(32)).decode()
    file.write_text(f"{KEY}\n")
    kept = {"voices": {"enabled": True, "key_file": file}}
    client = await start(**kept)
    await enrolled(client, "Ann", speaking("0,1"))
    await client.close()
    file.write_text(f"{new}\n{KEY}\n")
    again = await start(**kept)
    assert [voice["name"] for voice in (await (await again.get(VOICES)).json())["voices"]] == ["Ann"]


def test_without_the_package_that_encrypts_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Voices(enabled=True, key=SecretStr(Fernet.generate_key().decode()))
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(ConfigError, match=r'pip install "diarserve\[voices\]"'):
        cipher(settings)
