"""An SA that came along is taken once, by whoever means it and no other."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import ip_address

import pytest

from ipsec_dp.databases.sad_records import SaRecord
from ipsec_dp.databases.unowned_sas import Unowned
from ipsec_dp.dataplane import Direction, Encapsulation, Endpoint, Limits, OuterPath, SaHandle, SaParams
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.suites import parse_suite

SUITE = parse_suite("aes128gcm16")
LIMITS = Limits(0, 0, 0, 0)


def path(last):
    return OuterPath(
        Endpoint(ip_address("192.0.2.1"), 4500), Endpoint(ip_address(f"192.0.2.{last}"), 4500), Encapsulation.UDP, link=0
    )


def record(handle, direction=Direction.INBOUND, spi=0x1001, where=None):
    return SaRecord(SaHandle(handle), direction, spi, 0, SUITE, (), LIMITS, 0.0, where)


def meant(of):
    outbound = of.direction is Direction.OUTBOUND
    return SaParams(
        direction=of.direction,
        spi=of.spi,
        suite=of.suite,
        keymat=b"",
        tunnel=of.tunnel,
        limits=LIMITS,
        selectors=(),
        path=of.path,
        interface=None if outbound else 0,
    )


def refusal(unowned, of):
    with pytest.raises(DataPlaneError, match="came along") as raised:
        unowned.take(meant(of))
    return raised.value.errno


def test_each_is_taken_once():
    one, other = record(1), record(2, spi=0x1002)
    unowned = Unowned([one, other])
    assert unowned.take(meant(one)) == one.handle
    assert (unowned.rest, refusal(unowned, one)) == ([other.handle], errno.ENOKEY)


@pytest.mark.parametrize("what", [{"spi": 0x1003}, {"tunnel": 1}, {"direction": Direction.OUTBOUND, "path": path(2)}])
def test_what_nobody_meant_is_not_given(what):
    one = record(1)
    unowned = Unowned([one])
    assert refusal(unowned, replace(one, **what)) == errno.ENOKEY
    assert unowned.rest == [one.handle]


def test_of_two_with_one_spi_the_path_decides():
    """Peers choose the SPIs of outbound SAs."""
    one, other = (record(last, Direction.OUTBOUND, where=path(last)) for last in (2, 3))
    unowned = Unowned([one, other])
    assert refusal(unowned, replace(one, path=path(4))) == errno.ENOKEY
    assert [unowned.take(meant(each)) for each in (other, one)] == [other.handle, one.handle]
