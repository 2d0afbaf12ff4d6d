"""A peer that sends on a new SA at once, while its answer is still on the way (RFC 7296 §2.8): nothing of it is lost.

Two IKE cores on an in-memory wire, each with a data plane of its own. Site b answers, sends a stream by the new SA in the same
moment, and the stream arrives before the answer.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from ipsec_dp.dataplane import Batch, Encapsulation, Endpoint, MemoryDatagram
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.manager import IkeManager
from ipsec_dp.keying.child_installer import IkeChildren
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.plane import PlaneRig, selector
from tests.ike.ladder import ADDRESSES, TUNNEL, Ladder, peer

STREAM = 64
NETS = {"a": ("10.1.0.0/24", "10.2.0.0/24"), "b": ("10.2.0.0/24", "10.1.0.0/24")}


class PlaneSad:
    """Carries the core's actions out in a data plane; `installed` hears of each outbound SA."""

    def __init__(self, name, clock, encapsulation):
        self.gateway = PlaneRig(name, ADDRESSES[name], clock=clock, encapsulation=encapsulation)
        self.gateway.protect([selector(*NETS[name])])
        tunnel = TUNNEL[name]
        self.children = IkeChildren(self.gateway.sad, lambda *_: self.gateway.link, {tunnel: 0}, {tunnel: 0})
        self.installed = lambda _handle: None

    def allocate_spi(self, _tunnel):
        return self.gateway.sad.try_allocate_spi()

    def carry_out(self, action):
        children = self.children
        match action:
            case act.ExpectInbound():
                children.expect(action)
            case act.InstallInbound():
                children.install_inbound(action)
            case act.InstallOutbound():
                children.install_outbound(action)
                self.installed(children.of(action.tunnel)[-1].outbound)
            case act.SwitchOutbound():
                children.switch(action)
            case act.RemoveOutbound():
                children.remove_outbound(action.child)
            case act.RemoveChild():
                children.remove(action.child)
            case act.ReleaseSpi():
                children.release_spi(action.spi)


class Sites:
    """The ladder with data planes; what b's new outbound SA sends goes to a at once, from `source`."""

    def __init__(self, encapsulation):
        self.peers = {name: peer(name, encapsulation="udp" if encapsulation is Encapsulation.UDP else "esp") for name in ("a", "b")}
        self.ladder = Ladder()
        self.sads = {name: PlaneSad(name, self.ladder.clock, encapsulation) for name in ("a", "b")}
        for name, site in self.ladder.sites.items():
            site.sad = self.sads[name]  # type: ignore[assignment]
            site.core = IkeManager(replace(site.core.environment, allocate_spi=site.sad.allocate_spi), [self.peers[name]])
        self.sads["b"].installed = self.send_at_once
        port = 4500 if encapsulation is Encapsulation.UDP else 0
        self.source = Endpoint(ip_address(ADDRESSES["b"]), port)
        self.streams = 0
        self.expected = []

    def close(self):
        for sad in self.sads.values():
            sad.gateway.close()

    def send_at_once(self, handle):
        packets = [udp("10.2.0.5", "10.1.0.5", b"%d %d" % (self.streams, number)) for number in range(STREAM)]
        self.streams += 1
        sealed = Batch(STREAM, 256)
        plain = Batch.of(packets)
        assert self.sads["b"].gateway.plane.seal(handle, plain, sealed, self.ladder.clock.ns) == STREAM
        a = self.sads["a"].gateway
        a.arrive(*(MemoryDatagram(data, a.endpoint, self.source) for data in sealed.packets()))
        a.step()
        self.expected += packets

    def pulled(self):
        gateway = self.sads["a"].gateway
        gateway.step()
        return gateway.pulled()

    @property
    def drops(self):
        return self.sads["a"].gateway.drops


@pytest.fixture(params=[Encapsulation.ESP, Encapsulation.UDP], ids=lambda each: each.name)
def sites(request):
    made = Sites(request.param)
    yield made
    made.close()


def up(sites):
    sites.ladder.initiate("a")
    sites.ladder.settle()
    assert sites.streams == 1


def rekey(sites, site="a"):
    who = sites.ladder.sites[site]
    who.do(who.core.rekey(TUNNEL[site], sites.ladder.clock(), ike=False))
    sites.ladder.settle()


def test_what_overtakes_the_answer_arrives_whole_and_in_order(sites):
    up(sites)  # IKE_AUTH
    for _ in range(10):
        rekey(sites)
    assert sites.streams == 11
    assert sites.pulled() == sites.expected
    assert sites.drops == {}


def test_nothing_is_handed_on_before_the_answer_was_authenticated(sites):
    sites.ladder.initiate("a")
    sites.ladder.deliver("b")
    sites.ladder.deliver("a")
    sites.ladder.deliver("b")  # b has authenticated, and sends
    assert sites.streams == 1
    assert sites.pulled() == []
    sites.ladder.deliver("a")
    assert sites.pulled() == sites.expected


def test_an_answer_that_does_not_authenticate_wipes_it(sites):
    a = sites.ladder.a.core
    a.set_peers([replace(sites.peers["a"], remote_id=Identity.from_text("another.example"))])
    sites.ladder.initiate("a")
    sites.ladder.settle()
    assert sites.streams == 1
    assert sites.pulled() == []
    assert sites.drops == {"reserved_dropped": STREAM}


def test_from_elsewhere_it_is_an_unknown_spi(sites):
    sites.source = replace(sites.source, address=ip_address("198.51.100.9"))
    up(sites)
    assert sites.pulled() == []
    assert sites.drops == {"unknown_spi": STREAM}


def test_an_answer_that_is_late_brings_no_old_packets(sites):
    up(sites)
    sites.pulled()
    who = sites.ladder.a
    who.do(who.core.rekey("to-b", sites.ladder.clock(), ike=False))
    sites.ladder.deliver("b")
    sites.ladder.clock.advance(2.5)
    sites.ladder.settle()
    assert sites.pulled() == []
    assert sites.drops == {"reserved_dropped": STREAM}
