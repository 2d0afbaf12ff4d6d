"""Traffic selector pairs: ranges, and how `status` writes them."""

from __future__ import annotations

import ipaddress

import pytest

from ipsec_dp.ipsec.selectors import ANY_PORT, ANY_PROTOCOL, Range, SelectorPair
from ipsec_dp.rig.plane import selector


def test_any_includes_what_cannot_be_seen():
    """RFC 4301 §4.4.1.1: OPAQUE."""
    assert (Range(0, 256), Range(0, 65536)) == (ANY_PROTOCOL, ANY_PORT)
    pair = selector("10.1.0.0/16", "10.2.0.0/16")
    assert (pair.protocol, pair.local_ports, pair.remote_ports) == (ANY_PROTOCOL, ANY_PORT, ANY_PORT)


def icmp(low, high, protocol=1):
    """Bounds as ICMP has them: type << 8 | code, the same on both sides (RFC 4301 §4.4.1.1)."""
    return {"protocol": Range(protocol, protocol), "local_ports": Range(low, high), "remote_ports": Range(low, high)}


@pytest.mark.parametrize(
    ("bounds", "local", "remote"),
    [
        ({}, "10.1.0.0/16", "10.2.0.0/16"),
        ({"protocol": Range(6, 6)}, "10.1.0.0/16[6/any]", "10.2.0.0/16[6/any]"),
        ({"protocol": Range(6, 6), "remote_ports": Range(443, 443)}, "10.1.0.0/16[6/any]", "10.2.0.0/16[6/443]"),
        ({"protocol": Range(6, 17), "local_ports": Range(5000, 5010)}, "10.1.0.0/16[6-17/5000-5010]", "10.2.0.0/16[6-17/any]"),
        ({"local_ports": Range(0, 65535)}, "10.1.0.0/16[any/0-65535]", "10.2.0.0/16"),
        (icmp(0x0800, 0x08FF), "10.1.0.0/16[1/type 8]", "10.2.0.0/16[1/type 8]"),
        (icmp(0x0301, 0x0304, 58), "10.1.0.0/16[58/type 3 code 1-4]", "10.2.0.0/16[58/type 3 code 1-4]"),
        (icmp(0x0301, 0x0301), "10.1.0.0/16[1/type 3 code 1]", "10.2.0.0/16[1/type 3 code 1]"),
        (icmp(0x0300, 0x05FF), "10.1.0.0/16[1/type 3-5]", "10.2.0.0/16[1/type 3-5]"),
        (icmp(0x0301, 0x0500), "10.1.0.0/16[1/type 3 code 1 to type 5 code 0]", "10.2.0.0/16[1/type 3 code 1 to type 5 code 0]"),
        (icmp(0, 65536), "10.1.0.0/16[1/any]", "10.2.0.0/16[1/any]"),
        (icmp(65536, 65536), "10.1.0.0/16[1/opaque]", "10.2.0.0/16[1/opaque]"),
        ({"protocol": Range(1, 1), "remote_ports": Range(0x0800, 0x08FF)}, "10.1.0.0/16[1/any]", "10.2.0.0/16[1/type 8]"),
        ({"protocol": Range(0, 1), "local_ports": Range(0x0800, 0x08FF)}, "10.1.0.0/16[0-1/2048-2303]", "10.2.0.0/16[0-1/any]"),
    ],
)
def test_a_side_names_protocol_and_ports_where_they_are_bounded(bounds, local, remote):
    pair = selector("10.1.0.0/16", "10.2.0.0/16", **bounds)
    assert (pair.local_text, pair.remote_text) == (local, remote)


@pytest.mark.parametrize(("network", "version"), [("10.0.0.0/8", 4), ("2001:db8::/32", 6)])
def test_a_pair_has_the_ip_version_of_its_addresses(network, version):
    assert selector(network, network).version == version
    assert isinstance(selector(network, network), SelectorPair)


@pytest.mark.parametrize(
    ("local", "remote", "shown", "held"),
    [
        ("10.1.0.1", "10.2.0.1", (6, 1024, 443), True),
        ("10.1.0.1", "10.2.0.1", (6, 1024, 444), False),
        ("10.1.0.1", "10.2.0.1", (17, 1024, 443), False),
        ("10.1.0.1", "10.2.0.1", (6,), False),  # a later fragment
        ("10.2.0.1", "10.1.0.1", (6, 1024, 443), False),
        ("10.1.0.1", "2001:db8::1", (6, 1024, 443), False),
    ],
)
def test_a_pair_holds_what_is_inside_in_every_respect(local, remote, shown, held):
    pair = selector("10.1.0.0/16", "10.2.0.0/16", protocol=Range(6, 6), remote_ports=Range(443, 443))
    assert pair.holds(ipaddress.ip_address(local), ipaddress.ip_address(remote), *shown) is held
    assert selector("0.0.0.0/0", "0.0.0.0/0").holds(ipaddress.ip_address("10.9.0.1"), ipaddress.ip_address("10.1.0.1"))


def test_two_ip_versions_make_no_pair():
    with pytest.raises(ValueError, match="different IP versions"):
        selector("10.0.0.0/8", "2001:db8::/32")
