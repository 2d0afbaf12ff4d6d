"""CHILD_SAs of a tunnel: which of them a packet takes, and how its SA is changed under traffic."""

from __future__ import annotations

import pytest

from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.selectors import Range
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.plane import PlaneRig, keymat, selector
from tests.unit.sites import spi_of

GCM = parse_suite("aes128gcm16")
WIDE = selector("10.0.0.0/8", "10.0.0.0/8")
NARROW = selector("10.1.0.0/16", "10.2.0.0/16")
OTHER = selector("172.16.0.0/12", "172.16.0.0/12")
PACKET = udp("10.1.0.1", "10.2.0.1")


@pytest.fixture
def gateway():
    with PlaneRig("a", "192.0.2.1") as made:
        made.protect([selector("0.0.0.0/0", "0.0.0.0/0"), selector("::/0", "::/0")])
        yield made


def sa(gateway, spi, tunnel=0):
    return gateway.plane.install_outbound(
        spi=spi, suite=GCM, keymat=keymat(GCM, "k"), path=gateway.path_to(gateway.endpoint), tunnel=tunnel
    )


def child(gateway, selectors, spi=None, tunnel=0):
    number = gateway.plane.add_child(tunnel, selectors)
    if spi is not None:
        gateway.plane.switch(tunnel, number, sa(gateway, spi, tunnel))
    return number


def taken(gateway, packet=PACKET):
    """The SPI by which a packet leaves; None when it does not."""
    gateway.push(packet)
    gateway.step()
    sent = gateway.sent()
    return spi_of(sent[0]) if sent else None


def test_the_first_child_added_that_holds_the_packet_is_taken(gateway):
    child(gateway, [NARROW], 0x1001)
    child(gateway, [WIDE], 0x1002)
    assert taken(gateway) == 0x1001
    assert taken(gateway, udp("10.3.0.1", "10.4.0.1")) == 0x1002
    assert taken(gateway, udp("172.16.0.1", "172.16.0.2")) is None
    assert gateway.drops == {"no_sa": 1}


def test_the_order_is_that_of_adding(gateway):
    child(gateway, [WIDE], 0x1002)
    child(gateway, [NARROW], 0x1001)
    assert taken(gateway) == 0x1002


def test_a_child_without_an_sa_is_passed_over(gateway):
    """Until it has one, a wider CHILD may carry its packets."""
    narrow = child(gateway, [NARROW])
    child(gateway, [WIDE], 0x1002)
    assert taken(gateway) == 0x1002
    gateway.plane.switch(0, narrow, sa(gateway, 0x1001))
    assert taken(gateway) == 0x1001
    gateway.plane.switch(0, narrow, None)
    assert taken(gateway) == 0x1002


def test_any_of_a_childs_selectors_will_do_and_each_bounds_all_it_names(gateway):
    dns = selector("10.0.0.0/8", "10.2.0.0/16", protocol=Range(17, 17), remote_ports=Range(53, 53))
    child(gateway, [OTHER, dns, selector("2001:db8::/32", "2001:db8::/32")], 0x1001)
    assert taken(gateway, udp("172.16.0.1", "172.16.0.2")) == 0x1001
    assert taken(gateway, udp("10.1.0.1", "10.2.0.1", ports=(9, 53))) == 0x1001
    assert taken(gateway, udp("10.1.0.1", "10.2.0.1", ports=(53, 9))) is None
    assert taken(gateway, udp("2001:db8::1", "2001:db8::2")) == 0x1001


def test_a_removed_child_is_not_taken_and_the_others_stay(gateway):
    narrow = child(gateway, [NARROW], 0x1001)
    wide = child(gateway, [WIDE], 0x1002)
    gateway.plane.remove_child(0, narrow)
    assert taken(gateway) == 0x1002
    gateway.plane.remove_child(0, wide)
    assert taken(gateway) is None
    assert gateway.plane.reclaim() == 0
    for number in (narrow, wide):
        with pytest.raises(DataPlaneError, match="No such file"):
            gateway.plane.remove_child(0, number)


def test_removing_an_sa_leaves_its_child_without_one(gateway):
    number = child(gateway, [WIDE])
    handle = sa(gateway, 0x1001)
    gateway.plane.switch(0, number, handle)
    gateway.plane.remove(handle)
    gateway.plane.reclaim()
    assert taken(gateway) is None
    assert gateway.drops == {"no_sa": 1}
    gateway.plane.switch(0, number, sa(gateway, 0x1002))
    assert taken(gateway) == 0x1002


def test_two_children_may_share_an_sa(gateway):
    handle = sa(gateway, 0x1001)
    numbers = [child(gateway, [pair]) for pair in (NARROW, OTHER)]
    for number in numbers:
        gateway.plane.switch(0, number, handle)
    assert taken(gateway) == taken(gateway, udp("172.16.0.1", "172.16.0.2")) == 0x1001
    gateway.plane.remove(handle)
    assert taken(gateway) is None
    assert taken(gateway, udp("172.16.0.1", "172.16.0.2")) is None


def test_children_of_tunnels_are_apart(gateway):
    here, there = child(gateway, [WIDE]), child(gateway, [WIDE], tunnel=1)
    assert here != there
    with pytest.raises(DataPlaneError, match="No such file"):
        gateway.plane.switch(0, there, None)


@pytest.mark.parametrize("handle", [1, 2**31, 2**63])
def test_a_child_takes_only_sas_that_are_there(gateway, handle):
    number = child(gateway, [WIDE])
    with pytest.raises(DataPlaneError, match="Invalid argument"):
        gateway.plane.switch(0, number, handle)


def test_a_child_takes_only_outbound_sas_of_its_tunnel(gateway):
    number = child(gateway, [WIDE])
    inbound = gateway.plane.install_inbound(spi=0x1001, suite=GCM, keymat=keymat(GCM, "k"), selectors=[WIDE], tunnel=0, interface=0)
    for wrong in (inbound, sa(gateway, 0x1002, tunnel=1)):
        with pytest.raises(DataPlaneError, match="Invalid argument"):
            gateway.plane.switch(0, number, wrong)
    assert taken(gateway) is None


@pytest.mark.parametrize("tunnel", [16, 2**32 - 1])
def test_a_child_belongs_to_a_tunnel_there_is(gateway, tunnel):
    with pytest.raises(DataPlaneError, match="Invalid argument"):
        gateway.plane.add_child(tunnel, [WIDE])
    with pytest.raises(DataPlaneError, match="No such file"):
        gateway.plane.switch(tunnel, 1, None)
    with pytest.raises(DataPlaneError, match="No such file"):
        gateway.plane.remove_child(tunnel, 1)
    with pytest.raises(DataPlaneError, match="Invalid argument"):
        gateway.plane.take_acquire(tunnel)


@pytest.mark.parametrize("count", [0, 257])
def test_a_child_has_1_to_256_selectors(gateway, count):
    """That differ: one that is named twice is one."""
    several = [selector("10.1.0.0/16", f"10.2.{number // 256}.{number % 256}") for number in range(257)]
    with pytest.raises(DataPlaneError, match="Invalid argument"):
        gateway.plane.add_child(0, several[:count])
    assert len({gateway.plane.add_child(0, several[:most]) for most in (1, 256)}) == 2


def test_a_tunnel_has_4096_children_at_the_most(gateway):
    numbers = [gateway.plane.add_child(0, [WIDE]) for _ in range(4096)]
    with pytest.raises(DataPlaneError, match="No space"):
        gateway.plane.add_child(0, [WIDE])
    gateway.plane.remove_child(0, numbers[0])
    gateway.plane.add_child(0, [WIDE])
