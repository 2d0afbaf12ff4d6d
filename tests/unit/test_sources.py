"""The source address of the gateway's own packets into a tunnel."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from ipsec_dp.host.outer import OwnAddress
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import SelectorPair
from ipsec_dp.network.source_address import Sources


def selector(local, remote):
    return SelectorPair(AddressRange.of(local), AddressRange.of(remote))


SELECTORS = [
    selector("10.1.0.0/24", "10.2.0.0/24"),
    selector("10.4.0.0/24", "10.3.0.0/24"),
    selector("10.4.0.0/24", "10.2.0.0/16"),
    selector("fd00:1::/64", "fd00:2::/64"),
    selector("0.0.0.0/0", "10.8.0.0/24"),
    selector("10.9.0.0/24", "10.9.8.0/24"),
]
OWN = [
    OwnAddress(ip_address(address), interface)
    for address, interface in [
        ("192.0.2.1", "wan"),
        ("10.1.0.1", "lan"),
        ("10.1.0.9", "ipsec0"),
        ("10.4.0.1", "lan"),
        ("fd00:1::1", "lan"),
    ]
]


@pytest.mark.parametrize(
    ("prefix", "address"),
    [
        ("10.2.0.0/24", "10.1.0.9"),
        ("10.3.0.0/24", "10.4.0.1"),
        ("10.2.7.0/24", "10.4.0.1"),
        ("fd00:2::/64", "fd00:1::1"),
        ("10.8.0.0/24", None),
        ("172.16.0.0/12", None),
        ("10.9.8.0/24", None),
    ],
    ids=["the interface's own first", "another local", "part of a remote", "IPv6", "any local", "no selector", "none of ours"],
)
def test_source_by_prefix(prefix, address):
    found = Sources("ipsec0", SELECTORS, OWN).to(ip_network(prefix))
    assert found.address == (None if address is None else ip_address(address))


def test_only_a_lack_is_told():
    sources = Sources("ipsec0", SELECTORS, OWN)
    assert sources.to(ip_network("10.9.8.0/24")).missing == (AddressRange.of("10.9.0.0/24"),)
    for prefix in ("10.2.0.0/24", "10.8.0.0/24", "172.16.0.0/12"):
        assert sources.to(ip_network(prefix)).missing == ()


def test_a_remote_of_several_locals_takes_an_address_in_any():
    selectors = [selector("10.6.0.0/24", "10.2.0.0/24"), selector("10.4.0.0/24", "10.2.0.0/24")]
    sources = Sources("ipsec0", selectors, OWN)
    assert sources.to(ip_network("10.2.0.0/24")).address == ip_address("10.4.0.1")
    assert sources.any_address() == ip_address("10.4.0.1")
