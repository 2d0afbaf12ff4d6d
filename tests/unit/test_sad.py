"""The security association database as the control plane uses it (RFC 4301 §4.4.2)."""

from __future__ import annotations

import pytest

from ipsec_dp.databases.sad_records import ChildSa
from ipsec_dp.dataplane import Direction, Limits, SaCondition, SaFlag, SaParams
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.gateway.inspection import child_sa_status
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.plane import PlaneRig, keymat, pair, selector, selectors_of
from tests.unit.sites import to_a, to_b

GCM = parse_suite("aes256gcm16-esn")
PAIRS = selectors_of("a")


@pytest.fixture
def gateway():
    with PlaneRig("a", "192.0.2.1") as made:
        made.protect(PAIRS)
        yield made


def inbound(gateway, spi=None, **changes):
    settings = {"suite": GCM, "keymat": keymat(GCM, "in"), "selectors": PAIRS, "tunnel": 0, "interface": 0, "replay_window": 64}
    return gateway.sad.install_inbound(spi=spi or gateway.sad.allocate_spi(0x12345600), **settings | changes)


def outbound(gateway, spi=0x9000, **changes):
    settings = {"suite": GCM, "keymat": keymat(GCM, "out"), "path": gateway.path_to(gateway.endpoint), "tunnel": 0}
    return gateway.sad.install_outbound(spi=spi, **settings | changes)


def test_the_order_of_a_negotiation_receives_before_it_sends(gateway):
    spi = gateway.sad.allocate_spi(0xAAAA0000)
    handle = inbound(gateway, spi)
    child = gateway.sad.add_child(0, PAIRS, handle)
    assert child == ChildSa(child.number, 0, PAIRS, handle, None)
    gateway.push(to_b())
    gateway.step()
    assert gateway.drops == {"no_sa": 1}
    sender = outbound(gateway)
    gateway.sad.switch(child, sender)
    gateway.push(to_b())
    gateway.step()
    assert len(gateway.sent()) == 1
    assert (child.inbound, child.outbound) == (handle, sender)


def test_a_record_says_what_was_installed_and_no_key(gateway):
    gateway.clock.advance(5)
    limits = Limits(soft_packets=5)
    record = gateway.sad.records[inbound(gateway, 0x1001, limits=limits)]
    assert (record.direction, record.spi, record.tunnel, record.suite) == (Direction.INBOUND, 0x1001, 0, GCM)
    assert (record.selectors, record.limits, record.installed) == (PAIRS, limits, gateway.clock.seconds)
    assert keymat(GCM, "in")[:4].hex() not in repr(record)
    assert bytes(keymat(GCM, "in")[:4]) not in repr(record).encode("latin-1", "replace")


def test_a_refused_installation_leaves_no_record(gateway):
    inbound(gateway, 0x1001)
    with pytest.raises(DataPlaneError):
        inbound(gateway, 0x1001)
    with pytest.raises(DataPlaneError):
        outbound(gateway, 1)
    assert len(gateway.sad.records) == 1


def test_removing_an_sa_clears_it_from_its_child_and_wipes_its_key(gateway):
    first, second = inbound(gateway), outbound(gateway)
    child = gateway.sad.add_child(0, PAIRS, first)
    gateway.sad.switch(child, second)
    for handle in (first, second):
        gateway.sad.remove(handle)
    assert (child.inbound, child.outbound, gateway.sad.records) == (None, None, {})
    assert gateway.sad.reclaim() == 0
    assert gateway.plane.arena().in_use == 0
    with pytest.raises(DataPlaneError):
        gateway.sad.remove(first)


def test_removing_a_child_removes_both_its_sas(gateway):
    child = gateway.sad.add_child(0, PAIRS, inbound(gateway))
    gateway.sad.switch(child, outbound(gateway))
    gateway.sad.remove_child(child)
    assert (gateway.sad.children, gateway.sad.records) == ({}, {})
    assert gateway.sad.reclaim() == 0
    assert gateway.plane.arena().in_use == 0
    gateway.push(to_b())
    gateway.step()
    assert gateway.drops == {"no_sa": 1}


def test_removing_a_child_without_sas_is_fine(gateway):
    gateway.sad.remove_child(gateway.sad.add_child(0, PAIRS))
    assert gateway.sad.children == {}


def test_switch_can_tell_the_new_inbound_sa_too(gateway):
    old, new = inbound(gateway), inbound(gateway)
    child = gateway.sad.add_child(0, PAIRS, old)
    gateway.sad.switch(child, outbound(gateway), inbound=new)
    assert child.inbound == new
    gateway.sad.switch(child, None)
    assert (child.inbound, child.outbound) == (new, None)


def test_children_of_a_tunnel(gateway):
    here = [gateway.sad.add_child(0, PAIRS), gateway.sad.add_child(0, [selector("172.16.0.0/12", "172.16.0.0/12")])]
    there = gateway.sad.add_child(1, PAIRS)
    assert (gateway.sad.children_of(0), gateway.sad.children_of(1), gateway.sad.children_of(2)) == (here, [there], [])


def test_a_condition_is_told_once_by_punt_or_scan_and_not_of_an_sa_that_is_gone():
    with pair(limits=Limits(soft_packets=1, hard_packets=3)) as site:
        handle = site.outbound("a")
        site.transfer([to_b()])
        assert site.a.events() == [SaCondition(handle, 0, site.spis["b"], SaFlag.SOFT_LIMIT)]
        assert list(site.a.sad.rescan()) == []
        site.transfer([to_b()] * 3)
        assert list(site.a.sad.rescan()) == [SaCondition(handle, 0, site.spis["b"], SaFlag.HARD_LIMIT)]
        assert site.a.events() == []
        site.a.sad.acted(handle, SaFlag.SOFT_LIMIT | SaFlag.HARD_LIMIT)
        site.a.push(to_b())
        site.a.step()
        site.a.sad.remove(handle)
        assert site.a.events() == []
        assert list(site.a.sad.rescan()) == []


def test_a_scan_finds_every_condition_of_a_large_table():
    with PlaneRig("a", "192.0.2.1", sa_slots=1024) as gateway:
        gateway.protect(PAIRS)
        child = gateway.sad.add_child(0, PAIRS)
        handles = set()
        for _ in range(700):
            handle = outbound(gateway, limits=Limits(soft_packets=1))
            gateway.sad.switch(child, handle)
            gateway.push(to_b())
            gateway.step()
            handles.add(handle)
        assert {condition.handle for condition in gateway.plane.conditions()} == handles


def test_the_path_of_a_childs_traffic_shows_in_its_status():
    with pair("aes256gcm16-esn") as site:
        site.transfer([to_b(b"xyz")] * 3)
        site.transfer([to_a()], back=True)
        site.clock.advance(2)
        status = child_sa_status(site.a.sad, site.children["a"], site.clock.seconds)
        assert (status.spi_in, status.spi_out) == (f"{site.spis['a']:#010x}", f"{site.spis['b']:#010x}")
        assert (status.suite, status.esn) == ("aes256gcm16", True)
        assert (status.local_ts, status.remote_ts) == (("10.1.0.0/16", "2001:db8:1::/48"), ("10.2.0.0/16", "2001:db8:2::/48"))
        assert (status.packets_out, status.octets_out, status.packets_in) == (3, 3 * len(to_b(b"xyz")), 1)
        assert (status.sequence_out, status.sequence_in, status.last_out_s, status.age_s) == (3, 1, 2.0, 2.0)
        assert status.drops == {}


def test_a_child_without_sas_has_a_status_too(gateway):
    status = child_sa_status(gateway.sad, gateway.sad.add_child(0, PAIRS), gateway.clock.seconds)
    assert (status.spi_in, status.spi_out, status.packets_in, status.last_in_s) == (None, None, 0, None)


def test_only_what_an_sa_sent_lately_between_these_addresses_is_recent():
    """What an ICMP message must quote to be believed (RFC 4301 §8.2.1)."""
    with pair() as site:
        ends = site.a.endpoint.address, site.b.endpoint.address
        spi, recently = site.spis["b"], site.a.sad.sent_recently
        site.transfer([to_b(b"x")] * 10)
        assert [recently(spi, number, *ends) for number in (0, 1, 10, 11, 2**32 - 1)] == [False, True, True, False, False]
        assert not recently(spi ^ 1, 5, *ends)
        assert not recently(spi, 5, ends[1], ends[0])
        site.clock.advance(25)
        assert not recently(spi, 10, *ends)
        site.transfer([to_b(b"x")])
        assert (recently(spi, 10, *ends), recently(spi, 11, *ends)) == (False, True)


@pytest.mark.parametrize(
    ("direction", "changes"),
    [
        (Direction.INBOUND, {}),
        (Direction.INBOUND, {"path": True, "interface": 0}),
        (Direction.OUTBOUND, {}),
        (Direction.OUTBOUND, {"path": True, "interface": 0}),
    ],
)
def test_an_inbound_sa_has_an_interface_and_an_outbound_one_a_path(gateway, direction, changes):
    if "path" in changes:
        changes = changes | {"path": gateway.path_to(gateway.endpoint)}
    with pytest.raises(ValueError, match=r"an .*bound SA with"):
        SaParams(direction=direction, spi=0x1001, suite=GCM, keymat=keymat(GCM, "in"), tunnel=0, **changes)


def test_what_an_sa_is_made_with_shows_no_key():
    made = SaParams(direction=Direction.INBOUND, spi=0x1001, suite=GCM, keymat=keymat(GCM, "in"), tunnel=0, interface=0)
    assert "keymat" not in repr(made)
