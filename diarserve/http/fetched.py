"""Recordings that a client names by a URL, `{"url": "https://..."}`, instead of sending them. Only with `[fetch]
enabled`; and only from public addresses, redirections included, as callbacks are sent to none else.
"""

from __future__ import annotations

import time
from pathlib import Path

import aiohttp
from aiohttp import hdrs, web
from aiohttp.resolver import ThreadedResolver
from msgspec import Struct
from yarl import URL

from diarserve import __version__
from diarserve.core.errors import InvalidRequest, ServiceError, StorageFull
from diarserve.core.settings import MIB, Limits
from diarserve.core.task_settings import Fetch
from diarserve.http.context import SERVICE
from diarserve.http.json_body import json_body
from diarserve.http.recordings import Body, receive_recording, receiving, too_large
from diarserve.tasks.disk_space import DiskSpace
from diarserve.tasks.public_address import PrivateAddress, PublicResolver, require_public_host

_REDIRECTIONS = (301, 302, 303, 307, 308)
_MOST_REDIRECTIONS = 5
_LONGEST = 2000  # characters of a URL
_HEADERS = {"User-Agent": f"diarserve/{__version__}", "Accept-Encoding": "identity"}


class Location(Struct, forbid_unknown_fields=True):
    url: str


async def receive_from_url(request: web.Request, folder: Path, limits: Limits) -> tuple[str, ServiceError | None]:
    """Fetch the recording that the request's JSON body names into the folder. Returns its name, the last part of the
    URL's path, and the error for a file that is no recording. Raises ServiceError."""
    settings = request.app[SERVICE].settings.fetch
    if not settings.enabled:
        raise InvalidRequest(
            "Send the recording itself: this server fetches nothing from a URL, unless its [fetch] enabled says so.",
            code="url_not_supported",
            param="url",
        )
    location = await json_body(request, Location, limits)
    url = _parsed(location.url)
    async with receiving(request, limits) as disk:
        return url.name or "audio", await _fetch(url, settings, folder, limits, disk)


async def _fetch(url: URL, settings: Fetch, folder: Path, limits: Limits, disk: DiskSpace) -> ServiceError | None:
    resolver = ThreadedResolver() if settings.allow_private else PublicResolver()
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=settings.timeout, sock_read=settings.timeout)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        headers=_HEADERS,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        for _ in range(_MOST_REDIRECTIONS + 1):
            async with await _asked(session, url, settings) as answer:
                if answer.status in _REDIRECTIONS and hdrs.LOCATION in answer.headers:
                    url = _parsed(answer.headers[hdrs.LOCATION], url)
                    continue
                if answer.status != 200:
                    raise _failed(f"its server answered {answer.status}")
                if (answer.content_length or 0) > limits.max_upload_mib * MIB:
                    raise too_large(limits)
                if not disk.fits(answer.content_length or 0):
                    raise StorageFull("There is no room left for recordings; try again later.", retry_after=60)
                return await receive_recording(_Fetched(answer.content, limits), folder, limits, disk, discarding=False)
    raise _failed(f"it was redirected more than {_MOST_REDIRECTIONS} times")


async def _asked(session: aiohttp.ClientSession, url: URL, settings: Fetch) -> aiohttp.ClientResponse:
    try:
        if not settings.allow_private:
            require_public_host(url)
        return await session.get(url, allow_redirects=False)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise _failed(_reason(error)) from error


class _Fetched(Body):
    """Raises InvalidRequest where it comes more slowly than an upload may."""

    def __init__(self, content: aiohttp.StreamReader, limits: Limits) -> None:
        super().__init__(content)
        self._limits = limits
        self._waited = 0.0  # seconds, and the bytes that came in them
        self._came = 0

    async def read_chunk(self, size: int, /) -> bytes:
        began = time.monotonic()
        try:
            chunk = await super().read_chunk(size)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _failed(_reason(error)) from error
        self._waited += time.monotonic() - began
        self._came += len(chunk)
        if self._waited >= self._limits.upload_rate_window:
            if self._came < self._limits.min_upload_rate * self._waited:
                raise _failed(f"its server sends less than {self._limits.min_upload_rate} bytes a second")
            self._waited, self._came = 0.0, 0
        return chunk


def _parsed(text: str, base: URL | None = None) -> URL:
    """Raises InvalidRequest."""
    try:
        url = base.join(URL(text)) if base else URL(text)
    except ValueError as error:
        raise InvalidRequest("url is no URL.", param="url") from error
    if url.scheme not in ("http", "https") or not url.host or len(text) > _LONGEST:
        raise InvalidRequest(
            f"url must begin with https:// or http:// and have {_LONGEST} characters at most.", param="url"
        )
    return url


def _reason(error: Exception) -> str:
    """Without the addresses that names in the network mean."""
    if isinstance(getattr(error, "os_error", error), PrivateAddress):
        return "it is at no public address"
    return "its server did not answer in time" if isinstance(error, TimeoutError) else "its server cannot be reached"


def _failed(why: str) -> InvalidRequest:
    return InvalidRequest(f"The recording could not be fetched: {why}.", code="fetch_failed", param="url")
