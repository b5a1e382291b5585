"""Whom a request is taken to come from, and when a proxy is believed."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from diarserve.http import app
from diarserve.http.client_address import client_address, client_scheme
from tests.support.app import stand_ins

PROXIES = ["10.0.0.0/8", "2001:db8::/32", "127.0.0.1"]


class _Transport:
    """Says where the other end of the connection is."""

    def __init__(self, peer: str) -> None:
        self.peer = peer

    def get_extra_info(self, name: str, default: object = None) -> object:
        return (self.peer, 50000) if name == "peername" else default


def request(folder: Path, peer: str, *forwarded: str, proto: str = "", trusted: list[str] = PROXIES) -> web.Request:
    application = app.make(stand_ins(folder, access={"trusted_proxies": trusted}))
    headers = [("X-Forwarded-For", value) for value in forwarded] + ([("X-Forwarded-Proto", proto)] if proto else [])
    return make_mocked_request("GET", "/", CIMultiDict(headers), app=application, transport=_Transport(peer))


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("192.0.2.7", ["203.0.113.5"], "192.0.2.7"),  # no proxy of ours: its claim is nothing
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", ["203.0.113.5"], "203.0.113.5"),
        ("::ffff:10.1.1.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.1.1.1", ["1.2.3.4, 203.0.113.5, 10.2.2.2"], "203.0.113.5"),  # the client wrote 1.2.3.4 itself
        ("10.1.1.1", ["1.2.3.4", "203.0.113.5", "10.2.2.2"], "203.0.113.5"),  # as several fields
        ("10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("10.1.1.1", ["203.0.113.5:4711"], "203.0.113.5"),
        ("2001:db8::1", ["[2001:4860::8]:443"], "2001:4860::8"),
        ("10.1.1.1", ["203.0.113.5, nonsense"], "10.1.1.1"),
    ],
)
def test_forwarded_addresses_are_believed_from_trusted_proxies_alone(
    tmp_path: Path, peer: str, forwarded: list[str], address: str
) -> None:
    assert client_address(request(tmp_path, peer, *forwarded)) == address


def test_without_trusted_proxies_the_connection_tells(tmp_path: Path) -> None:
    asked = request(tmp_path, "10.1.1.1", "203.0.113.5", proto="https", trusted=[])
    assert (client_address(asked), client_scheme(asked)) == ("10.1.1.1", "http")


def test_the_scheme_is_believed_from_trusted_proxies_alone(tmp_path: Path) -> None:
    assert client_scheme(request(tmp_path, "10.1.1.1", proto="https")) == "https"
    assert client_scheme(request(tmp_path, "10.1.1.1", proto="gopher")) == "http"
    assert client_scheme(request(tmp_path, "192.0.2.7", proto="https")) == "http"
