"""CHILD_SAs of the IKE core in the SAD: what each action does to the SAs by which packets go."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address

import pytest

from ipsec_dp.dataplane import NO_LIMITS, Dscp, Encapsulation, Limits
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.environment import NEVER, SILENT
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.keying.child_installer import IkeChildren, outer_endpoint
from ipsec_dp.rig.plane import PlaneRig, keymat, selector, selectors_of
from tests.unit.sites import spi_of, to_b

SUITE = parse_suite("aes128gcm16")
PATH = act.Path(act.Endpoint(ip_address("192.0.2.1"), 4500), act.Endpoint(ip_address("192.0.2.2"), 4500), natt=True)
ELSEWHERE = replace(PATH, remote=act.Endpoint(ip_address("198.51.100.7"), 1024))
NUMBER = 3  # of the tunnel, in the data plane
UNLIMITED = act.ChildLimits()
SELECTORS = selectors_of("a")


class Site:
    """A data plane in memory, and the CHILD_SAs of its one tunnel; `dscp` is what the configuration says."""

    def __init__(self, gateway: PlaneRig) -> None:
        self.gateway, self.sad, self.dscp = gateway, gateway.sad, 0
        self.opened = list[tuple[str, int, Encapsulation]]()
        self.children = IkeChildren(gateway.sad, self.link, {"to-b": NUMBER}, {"to-b": 0}, self.outer_header)
        gateway.protect(SELECTORS, tunnel=NUMBER)

    def link(self, local, encapsulation):
        self.opened.append((str(local.address), local.port, encapsulation))
        return self.gateway.link

    def outer_header(self, tunnel, path):
        assert tunnel == "to-b"
        return replace(path, dscp=Dscp.VALUE, dscp_value=self.dscp)

    def receive(self, number, *, selectors=SELECTORS, limits=UNLIMITED, udp=True, also=False):
        key = keymat(SUITE, f"in {number}")
        self.children.install_inbound(
            act.InstallInbound("to-b", number, 0x1000 + number, SUITE, key, selectors, 64, limits, PATH, udp, None, also)
        )

    def prepare(self, number, *, selectors=SELECTORS, limits=UNLIMITED):
        key = keymat(SUITE, f"out {number}")
        self.children.install_outbound(
            act.InstallOutbound("to-b", number, 0x2000 + number, SUITE, key, selectors, limits, PATH, udp=True)
        )

    def up(self, number, *, replaces=None, selectors=SELECTORS):
        self.receive(number, selectors=selectors)
        self.prepare(number, selectors=selectors)
        self.children.switch(act.SwitchOutbound("to-b", number, replaces))

    def sent(self):
        """The datagrams that one packet becomes."""
        self.gateway.push(to_b())
        self.gateway.step()
        return self.gateway.sent()

    def spis(self):
        return sorted(record.spi for record in self.sad.records.values())


@pytest.fixture
def site():
    with PlaneRig("a", "192.0.2.1") as gateway:
        yield Site(gateway)


def test_nothing_is_sent_before_the_switch_and_then_by_the_new_sa(site):
    site.receive(1)
    site.prepare(1)
    assert site.sent() == []
    site.children.switch(act.SwitchOutbound("to-b", 1))
    (datagram,) = site.sent()
    assert spi_of(datagram) == 0x2001
    assert (str(datagram.remote.address), datagram.remote.port) == ("192.0.2.2", 4500)


def test_an_sa_is_found_by_its_handle_and_its_tunnel(site):
    site.up(1)
    (child,) = site.children.of("to-b")
    assert [site.children.named(handle) for handle in (child.inbound, child.outbound)] == [("to-b", 1)] * 2
    assert site.children.of("to-c") == []
    assert list(site.children.paths()) == ["to-b"]


def test_limits_are_those_of_the_core(site):
    site.receive(1, limits=act.ChildLimits(900, 1000, 9, 10))
    site.prepare(1)
    assert [record.limits for record in site.sad.records.values()] == [Limits(900, 1000, 9, 10), NO_LIMITS]


@pytest.mark.parametrize(("udp", "opened"), [(True, (4500, Encapsulation.UDP)), (False, (0, Encapsulation.ESP))])
def test_what_the_peer_sends_finds_a_socket_from_the_first_moment(site, udp, opened):
    site.receive(1, udp=udp)
    assert site.opened == [("192.0.2.1", *opened)]


def test_a_rekey_of_the_same_selectors_keeps_the_place_in_the_sad(site):
    site.up(1)
    before = list(site.sad.children)
    site.up(2, replaces=1)
    assert list(site.sad.children) == before
    assert spi_of(*site.sent()) == 0x2002
    site.children.remove_outbound(1)
    assert site.spis() == [0x1001, 0x1002, 0x2002], "what is under way may still come in"
    site.children.remove(1)
    assert site.spis() == [0x1002, 0x2002]
    assert spi_of(*site.sent()) == 0x2002


def test_a_rekey_with_other_selectors_takes_a_place_of_its_own(site):
    site.up(1)
    site.up(2, replaces=1, selectors=(selector("10.1.0.0/16", "10.2.0.0/24"),))
    assert len(site.sad.children) == 2
    site.children.remove(1)
    assert [child.selectors for child in site.sad.children.values()] == [(selector("10.1.0.0/16", "10.2.0.0/24"),)]


def test_removed_nothing_of_it_is_left(site):
    site.up(1)
    (child,) = site.children.of("to-b")
    site.children.remove(1)
    assert (site.sad.records, site.sad.children, site.children.of("to-b"), site.children.paths()) == ({}, {}, [], {})
    assert site.children.named(child.inbound) is None
    assert site.sent() == []


def test_one_that_is_gone_already_is_removed_without_a_word(site):
    site.up(1)
    for _ in range(2):
        site.children.remove(1)
        site.children.remove_outbound(1)


def test_an_sa_that_the_data_plane_refuses_leaves_nothing_behind(site):
    site.receive(1)
    with pytest.raises(DataPlaneError):
        site.children.install_inbound(
            act.InstallInbound("to-b", 2, 0x1001, SUITE, keymat(SUITE, "in"), SELECTORS, 64, act.ChildLimits(), PATH, udp=True)
        )
    assert site.spis() == [0x1001]
    site.children.remove(2)


def test_packets_follow_the_peer_to_its_new_address(site):
    site.up(1)
    site.receive(2)  # has no outbound SA yet
    site.children.move(act.MovePath("to-b", (1, 2, 99), ELSEWHERE))
    (datagram,) = site.sent()
    assert datagram.remote == outer_endpoint(ELSEWHERE.remote)
    assert site.children.paths()["to-b"].remote == outer_endpoint(ELSEWHERE.remote)


def test_sas_that_stay_get_the_outer_headers_of_a_changed_configuration(site):
    site.up(1)
    site.receive(2)
    site.dscp = 46
    assert [datagram.tos >> 2 for datagram in site.sent()] == [0]
    asyncio.run(site.children.set_outer_headers())
    assert [datagram.tos >> 2 for datagram in site.sent()] == [46]


def test_activity_is_when_a_packet_last_went_by(site):
    assert site.children.activity(1) == SILENT
    site.up(1)
    assert site.children.activity(1) == SILENT
    site.sent()
    assert site.children.activity(1) == (NEVER, site.gateway.clock())


def test_spis_of_which_no_sa_came_are_not_used_up(site):
    for _ in range(1000):  # more than the data plane has at a time
        site.children.release_spi(site.sad.allocate_spi(0x1234))


def test_an_agreement_on_later_fragments_reaches_both_sas(site, monkeypatch):
    installed, install = [], site.sad.install

    def noted(params):
        installed.append(params.fragments_also)
        return install(params)

    monkeypatch.setattr(site.sad, "install", noted)
    for number, also in ((1, True), (2, False)):
        site.receive(number, also=also)
        key = keymat(SUITE, f"out {number}")
        site.children.install_outbound(
            act.InstallOutbound("to-b", number, 0x2000 + number, SUITE, key, SELECTORS, UNLIMITED, PATH, True, fragments_also=also)
        )
    assert installed == [True, True, False, False]
