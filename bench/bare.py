"""The least that an aiohttp server can do with an upload: write it to a file, answer JSON. In a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile

from aiohttp import BodyPartReader, web

_CHUNK = 256 * 1024


async def take(request: web.Request) -> web.Response:
    size = 0
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        with tempfile.NamedTemporaryFile() as file:
            while chunk := await part.read_chunk(_CHUNK):
                size += file.write(chunk)
    return web.json_response({"size": size})


async def alive(request: web.Request) -> web.Response:
    return web.json_response({"pid": os.getpid()})


def new_loop() -> asyncio.AbstractEventLoop:
    """As `diarserve serve` has it."""
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    app = web.Application(client_max_size=0)
    app.add_routes([web.post("/api/v1/parallel/transcribe", take), web.get("/livez", alive), web.get("/readyz", alive)])
    web.run_app(app, host="127.0.0.1", port=parser.parse_args().port, print=None, access_log=None, loop=new_loop())


if __name__ == "__main__":
    main()
