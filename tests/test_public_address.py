"""Which addresses callbacks may go to. Nothing is resolved and nothing connected to."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from yarl import URL

from diarserve.tasks.public_address import PrivateAddress, require_public, require_public_host
from tests.support import loopback_only

# All blocks of the IANA registries of special-purpose addresses, the multicast blocks, and what IPv6 has given up
# (site-local, IPv4-compatible, IPv4-translated).
BLOCKS = """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29 192.0.0.8/32
    192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24
    192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24
    224.0.0.0/4 240.0.0.0/4 255.255.255.255/32
    ::1/128 ::/128 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128 2001:1::2/128
    2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32
    2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10 ff00::/8
    fec0::/10 ::/96 ::ffff:0:0:0/96
"""

# Private IPv4 addresses in every form in which an IPv6 address can carry one.
CARRIED = """
    ::ffff:10.0.0.1 ::ffff:127.0.0.1 ::ffff:0:127.0.0.1 ::127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::10.1.2.3
    64:ff9b:1::127.0.0.1 2002:7f00:1:: 2001:0:7f00:1:: 2001:0:5db8:d822:0:0:f5ff:fffe fe80::1%eth0
"""


def ends(block: str) -> list[str]:
    network = ipaddress.ip_network(block)
    return [str(network[0]), str(network[-1])]


@pytest.mark.parametrize("address", [*(end for block in BLOCKS.split() for end in ends(block)), *CARRIED.split()])
def test_addresses_that_are_not_public(address: str) -> None:
    with pytest.raises(PrivateAddress):
        require_public(address)
    host = f"[{address.partition('%')[0]}]" if ":" in address else address
    with pytest.raises(PrivateAddress):
        require_public_host(URL(f"https://{host}/hook"))


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "1.1.1.1", "100.63.255.255", "172.32.0.1", "192.88.98.255", "223.255.255.255",
     "2606:2800:220:1::1", "2001:200::1", "2001:4860:4860::8888", "2620:4f:8001::1", "3ffe::1",
     "64:ff9b::93.184.216.34", "::ffff:93.184.216.34"],
)  # fmt: skip
def test_addresses_that_are_public(address: str) -> None:
    require_public(address)


def test_tests_reach_no_other_machine() -> None:
    with socket.socket() as connection, pytest.raises(OSError, match=r"tried to reach 93\.184\.216\.34"):
        connection.connect(("93.184.216.34", 80))
    with pytest.raises(OSError, match=r"tried to reach example\.org"):
        socket.getaddrinfo("example.org", 80)
    assert loopback_only.refused == ["93.184.216.34", "example.org"]
    loopback_only.refused.clear()
