"""Requests that no honest client sends, the same for equal seeds: damaged heads, bodies, forms, fields, queries and
framings, on every route of the server's OpenAPI document.

`run(url, 10_000, seed)` sends them and counts the answers by status. It raises Misanswered for an answer of 500 or
above, an error that has not the documented shape, and silence where an answer is due. `python -m
tests.support.hostile_requests URL --count 10000 --seed 0` does the same from the command line.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

from tests.support import hostile_values as values
from tests.support.app import wav
from tests.support.raw_http import NO_ANSWER, Answer, ask

_PATIENCE, _SHORT_PATIENCE = 60.0, 0.2  # seconds for an answer that is due, and for one that may come
_AT_ONCE = 4


@dataclass(frozen=True)
class Operation:
    method: str
    path: str  # with {placeholders}
    query: Sequence[str]  # parameters
    fields: Sequence[str]  # of the form; empty where it takes none


@dataclass(frozen=True)
class Request:
    """`complete`: whether the server must answer it, or may wait for the rest or close."""

    method: str = "GET"
    target: str = "/"
    version: str = "HTTP/1.1"
    headers: tuple[tuple[str, str], ...] = (("Host", "localhost"),)
    body: bytes = b""
    raw: bytes | None = None  # what is sent instead of all these
    complete: bool = True

    def encoded(self) -> bytes:
        if self.raw is not None:
            return self.raw
        lines = [f"{self.method} {self.target} {self.version}", *(f"{name}: {value}" for name, value in self.headers)]
        return _bytes("\r\n".join(lines) + "\r\n\r\n") + self.body

    def with_header(self, name: str, value: str) -> Request:
        others = tuple(header for header in self.headers if header[0].lower() != name.lower())
        return replace(self, headers=(*others, (name, value)))


class Misanswered(AssertionError):
    pass


def operations(document: dict[str, Any]) -> list[Operation]:
    """Of an OpenAPI document."""
    found = []
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            query = [one["name"] for one in described.get("parameters", []) if one["in"] == "query"]
            content = described.get("requestBody", {}).get("content", {})
            schema = content.get("multipart/form-data", {}).get("schema", {})
            schema = document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], schema)
            found.append(Operation(method.upper(), path, query, list(schema.get("properties", {}))))
    return found


def hostile(routes: Sequence[Operation], count: int, seed: int) -> Iterator[Request]:
    rng = random.Random(seed)
    for _ in range(count):
        request = _valid(rng, rng.choice(routes))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            if request.raw is None:
                request = rng.choices([*_DAMAGE], [*_DAMAGE.values()])[0](rng, request)
        yield request


def run(url: str, count: int, seed: int) -> Counter[int]:
    """How many answers had each status. Raises Misanswered; with the seed it can be had again."""
    with urlopen(f"{url}/openapi.json", timeout=_PATIENCE) as answer:
        # But the drain: after it everything is 503.
        routes = [route for route in operations(json.load(answer)) if not route.path.endswith("/drain")]
    host, port = str(urlsplit(url).hostname), urlsplit(url).port or 80
    counts, wrong = Counter[int](), []

    def asked(request: Request) -> tuple[Request, Answer]:
        return request, ask(host, port, request.encoded(), _PATIENCE if request.complete else _SHORT_PATIENCE)

    requests = hostile(routes, count, seed)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while some := list(islice(requests, 100)):  # all of them would take gigabytes
            for request, answer in pool.map(asked, some):
                counts[answer.status] += 1
                if problem := misanswered(request, answer):
                    wrong.append(f"{problem}\n  request: {request.encoded()[:600]!r}\n  answer: {answer.body[:300]!r}")
    if wrong:
        raise Misanswered(f"{len(wrong)} of {count} (seed {seed}), {dict(counts)}:\n" + "\n".join(wrong[:10]))
    return counts


_DEEPGRAM = {"err_code", "err_msg", "request_id", "code", "param"}  # its shape of errors, and our two


def misanswered(request: Request, answer: Answer) -> str | None:
    """What is wrong with an answer, if anything."""
    if answer.status == NO_ANSWER:
        return "no answer" if request.complete else None
    if answer.status >= 500:
        return f"status {answer.status}"
    if answer.status < 400 or request.method == "HEAD":
        return None
    if not answer.headers.get("content-type", "").startswith("application/json"):
        return f"status {answer.status} is no JSON"
    try:
        body = json.loads(answer.body)
        if set(body) == _DEEPGRAM and request.target.startswith("/v1/listen"):
            return None
        error = body["error"]
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status} without an error"
    openai = {"type"} if request.target.startswith("/v1/") and "type" in error else set()
    if set(error) != {"code", "message", "param"} | openai:
        return f"status {answer.status} with another shape"
    return None


def _valid(rng: random.Random, route: Operation) -> Request:
    path = re.sub(r"{\w+}", lambda _: _quoted(rng, rng.choice(values.TEXTS)) or "x", route.path)
    request = Request(route.method, path)
    if route.fields:
        fields = {name: rng.choice(values.TEXTS) for name in route.fields if rng.random() < 0.1}
        fields = {name: text for name, text in fields.items() if name not in ("file", "files", "audio_file")}
        file = "audio_file" if "audio_file" in route.fields else rng.choice(("file", "file", "files"))
        parts = [(f'form-data; name="{name}"', (), _bytes(text)) for name, text in fields.items()]
        request = _form(request, [(f'form-data; name="{file}"; filename="a.wav"', (), wav(1)), *parts])
    return _query(rng, request, route.query) if route.query and rng.random() < 0.5 else request


def _form(request: Request, parts: Sequence[tuple[str, Sequence[str], bytes]]) -> Request:
    body = b"".join(
        _bytes("\r\n".join(("--x", f"Content-Disposition: {disposition}", *headers)) + "\r\n\r\n") + content + b"\r\n"
        for disposition, headers, content in parts
    )
    return _sized(request.with_header("Content-Type", "multipart/form-data; boundary=x"), body + b"--x--\r\n")


def _sized(request: Request, body: bytes) -> Request:
    return replace(request.with_header("Content-Length", str(len(body))), body=body)


def _query(rng: random.Random, request: Request, names: Sequence[str]) -> Request:
    pairs = [f"{rng.choice(names)}={_quoted(rng, rng.choice(values.TEXTS))}" for _ in range(rng.choice((1, 1, 2, 3)))]
    return replace(request, target=f"{request.target}?{'&'.join(pairs)}")


def _hostile_query(rng: random.Random, request: Request) -> Request:
    return _query(rng, request, values.PARAMETERS)


def _hostile_line(rng: random.Random, request: Request) -> Request:
    parts: dict[str, Sequence[str]] = {
        "method": values.METHODS, "target": values.TARGETS, "version": values.VERSIONS,
    }  # fmt: skip
    part = rng.choice([*parts])
    request = replace(request, **{part: rng.choice(parts[part])})  # type: ignore[arg-type]
    return replace(request, complete=False) if request.method in ("CONNECT", "HEAD") else request


def _hostile_header(rng: random.Random, request: Request) -> Request:
    name, choices = rng.choice(values.HEADERS)
    value = rng.choice(choices)
    if rng.random() < 0.2:
        request = replace(request, headers=(*request.headers, (name, value)))  # beside one of that name
    else:
        request = request.with_header(name, value)
    # How long the body is may now be misunderstood, and the server may wait for more of it; so it may after an upgrade.
    waits = name in ("Content-Length", "Transfer-Encoding", "Upgrade", "Expect", "Connection")
    return replace(request, complete=request.complete and not waits)


def _many_headers(rng: random.Random, request: Request) -> Request:
    added = tuple((f"X-{number}", "v" * rng.choice((0, 1, 60))) for number in range(rng.choice((20, 200, 2000))))
    return replace(request, headers=request.headers + added)


def _hostile_part(rng: random.Random, request: Request) -> Request:
    field = rng.choice(("file", "files", "language", "num_speakers", "response_format", "\ud800", "é", "\0", "x" * 300))
    parts = [
        (
            rng.choice(values.DISPOSITIONS).replace("{field}", field),
            rng.sample(values.PART_HEADERS, rng.choice((0, 0, 1, 2))),
            rng.choice((wav(1), b"", b"\xff", b"\0", wav(0), rng.randbytes(300), b"A" * 70_000)),
        )
        for _ in range(rng.choice((1, 1, 2, 3, 150)))
    ]
    return _form(replace(request, method="POST"), parts)


def _hostile_field(rng: random.Random, request: Request) -> Request:
    fields = [
        (f'form-data; name="{rng.choice(values.FIELDS)}"', (), _bytes(rng.choice(values.TEXTS)))
        for _ in range(rng.randint(1, 4))
    ]
    return _form(request, [*fields, ('form-data; name="file"; filename="a.wav"', (), wav(1))])


def _torn_body(rng: random.Random, request: Request) -> Request:
    """Whole by its length, but not by its boundaries."""
    body = bytearray(request.body or b"--x\r\n\r\n--x--")
    match rng.randrange(6):
        case 0:
            body = body[: rng.randrange(len(body))]
        case 1:
            body = body[rng.randrange(len(body)) :]
        case 2:
            body = body.replace(b"\r\n", b"\n", rng.randint(1, 9))
        case 3:
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        case 4:
            at = rng.randrange(min(len(body), 300))
            body[at:at] = rng.choice((b"--x", b"--x--", b"\r\n--x\r\n", b"\0", b"\r\n\r\n", b"--x--\r\n--x\r\n"))
        case _:
            body = bytearray(rng.randbytes(rng.choice((0, 1, 100, 5000))))
    return _sized(request, bytes(body))


def _cut_off(rng: random.Random, request: Request) -> Request:
    whole = request.encoded()
    return replace(request, raw=whole[: rng.randrange(1, len(whole) + 1)], complete=False)


def _chunked(rng: random.Random, request: Request) -> Request:
    size = f"{len(request.body):x}".encode()
    sizes = (
        size,
        size,
        b"-1",
        b"zz",
        b"",
        b"0x10",
        b"F" * 30,
        size + b";ext=1",
        size + b";" + b"e" * 9000,
        b" " + size,
    )
    ends = (b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\n\n", b"0\r\nbad trailer\r\n\r\n", b"00000\r\n\r\n")
    given = rng.choice(sizes)
    body = given + rng.choice((b"\r\n", b"\r\n", b"\n")) + request.body + b"\r\n" + rng.choice(ends)
    headers = tuple(header for header in request.headers if header[0] != "Content-Length" or rng.random() < 0.1)
    return replace(request, headers=(*headers, ("Transfer-Encoding", "chunked")), body=body, complete=False)


def _garbage(rng: random.Random, request: Request) -> Request:
    return replace(request, raw=rng.choice((*values.GARBAGE, rng.randbytes(300) + b"\r\n\r\n")), complete=False)


def _flip_a_bit(rng: random.Random, request: Request) -> Request:
    whole = bytearray(request.encoded())
    whole[rng.randrange(min(len(whole), 400))] ^= 1 << rng.randrange(8)
    return replace(request, raw=bytes(whole), complete=False)


_DAMAGE: Mapping[Callable[[random.Random, Request], Request], int] = {  # how often each is done, relatively
    _hostile_query: 2, _hostile_line: 2, _hostile_header: 4, _many_headers: 1, _hostile_part: 4, _hostile_field: 3,
    _torn_body: 4, _cut_off: 1, _chunked: 2, _garbage: 1, _flip_a_bit: 2,
}  # fmt: skip


def _quoted(rng: random.Random, text: str) -> str:
    """As it stands in a target: as it should, or raw but for spaces."""
    if rng.random() < 0.8:
        return quote(_bytes(text), safe="")
    return re.sub(r"[\s#?/]", lambda found: f"%{ord(found[0]):02x}", text)


def _bytes(text: str) -> bytes:
    """UTF-8, with lone surrogates as bytes that are none."""
    return text.encode("utf-8", "surrogatepass")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for status, number in sorted(run(asked.url, asked.count, asked.seed).items()):
        print(f"{number:6} {status or 'no answer'}")


if __name__ == "__main__":
    main()
