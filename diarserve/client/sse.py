"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), as the server writes them."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[tuple[str, bytes]]:
    """Names and data, as they come. An event that was cut off is none."""
    rest = b""
    async for chunk in chunks:
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            fields = [line.partition(b":") for line in block.split(b"\n")]
            name = b"".join(value for field, _, value in fields if field == b"event").strip().decode()
            data = b"\n".join(value.removeprefix(b" ") for field, _, value in fields if field == b"data")
            if data:
                yield name or "message", data
