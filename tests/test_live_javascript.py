"""A live client in JavaScript, made of nothing but what node has."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess

import pytest

from tests.support.app import API, Start
from tests.support.waiting import LIMIT

CLIENT = """
const said = [1, 2, 0, 1], told = [];  // a second of each value; 0 is silence
const socket = new WebSocket(process.argv[1]);
socket.binaryType = "arraybuffer";
socket.onopen = () => {
  for (const value of said) socket.send(new Int16Array(16000).fill(value));
  socket.send(JSON.stringify({type: "finish"}));
};
socket.onmessage = (event) => told.push(JSON.parse(event.data));
socket.onclose = (event) => { console.log(JSON.stringify({told, code: event.code})); process.exit(0); };
"""


@pytest.fixture(scope="module")
def node() -> list[str]:
    """A command that runs a script with WebSocket: node from 22 on, from 20.10 on with a flag."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    for command in ([found], [found, "--experimental-websocket"]):
        looked = subprocess.run([*command, "-e", "new WebSocket('ws://127.0.0.1:9').onerror = () => {}"], check=False)
        if looked.returncode == 0:
            return command
    pytest.skip("this node has no WebSocket: it has from version 20.10 on")


async def test_a_client_in_javascript_is_told_who_says_what(start: Start, node: list[str]) -> None:
    client = await start()
    url = f"ws://{client.host}:{client.port}{API}/stream"
    process = await asyncio.create_subprocess_exec(*node, "-e", CLIENT, url, stdout=subprocess.PIPE)
    async with asyncio.timeout(LIMIT):
        output, _ = await process.communicate()
    heard = json.loads(output)
    told = heard["told"]
    words = [word for event in told if event["type"] == "final" for word in event["words"]]
    assert [(word["word"], word["speaker"]) for word in words] == [
        ("w1", "SPEAKER_01"),
        ("w2", "SPEAKER_02"),
        ("w1", "SPEAKER_01"),
    ]
    assert (told[0]["type"], told[-1]["type"], heard["code"]) == ("ready", "done", 1000)
