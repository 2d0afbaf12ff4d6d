"""A tunnel is called anew for its ESP to go in another way, and not while it carries something."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.host.sockets import NAT_PORT
from ipsec_dp.ike import actions as act
from ipsec_dp.keying.encapsulation_fallback import EncapsulationFallback
from ipsec_dp.keying.encapsulations import ANEW_S, Between
from ipsec_dp.keying.tunnel_state import UP
from ipsec_dp.rig import Network
from tests.doubles.clock import FakeClock

from .ike_driver_site import PATH, Double
from .rig_sites import site

EVENT = act.Event(act.Kind.NO_UDP, "to-b", b"i" * 8, b"r" * 8, "", "why", origin=act.Origin.OURS)
STEP_S = 5
BETWEEN = Between(PATH.local.address, PATH.remote.address)


def sa(state, **fields):
    usual = {"role": "initiator", "udp": True, "encapsulation_why": "auto", "spi_i": EVENT.spi_i, "spi_r": EVENT.spi_r}
    return SimpleNamespace(state=state, path=PATH, **usual | fields)


@pytest.fixture
def done():
    return Double(nothing_back=True, fell_back=False)


@pytest.fixture
def made(done):
    def make(*sas, can_call=True, encapsulation="auto"):
        core: Any = Double(latest=sas)
        clock: Any = FakeClock()

        class Peers(dict[str, Any]):
            encapsulations = done

        peers: Any = Peers({"to-b": SimpleNamespace(encapsulation=encapsulation)})
        calls: Any = SimpleNamespace(intents={"to-b": SimpleNamespace(can_call=can_call)})
        return EncapsulationFallback(core, peers, calls, clock, leave=done.leave, restart=done.restart, carry_out=done.carry_out)

    return make


def test_an_attempt_that_goes_no_further_is_left_and_made_anew(made, done):
    made(sa("negotiating")).no_udp(EVENT)
    assert done.calls == [("leave", "to-b"), ("no_way", "to-b", BETWEEN, "why"), ("restart", "to-b")]


@pytest.mark.parametrize("sas", [(), (sa("up"), sa("negotiating")), (sa("negotiating", spi_i=bytes(8)),)])
def test_what_carries_something_and_what_is_over_is_left_alone(made, done, sas):
    made(*sas).no_udp(EVENT)
    assert done.calls == []


def test_of_several_remotes_the_one_that_has_no_way_for_udp_is_called_without(monkeypatch):
    """The attempt that we ended made it the next one's turn, and what was found was forgotten, round and round."""
    with Network() as network:
        passes = network.transmit

        def transmit(datagram):
            if datagram.destination.port != NAT_PORT:
                passes(datagram)

        monkeypatch.setattr(network, "transmit", transmit)
        network.gateway(site("a", start="respond"))
        b = network.gateway(site("b", start="start").replace('"192.0.2.1"', '["192.0.2.1", "192.0.2.77"]'))
        b.clock.advance(20)
        engine: Any = b.site.gateway.engine
        status = engine.ike.status("to-a")
        assert (status.state, status.encapsulation, status.encapsulation_why) == ("up", "esp", "fallback")


class Blocked:
    """Two gateways, the network between which lets nothing of port 4500 pass while it is `shut`."""

    def __init__(self, network, monkeypatch, version):
        self.shut, self._passes = True, network.transmit
        monkeypatch.setattr(network, "transmit", self._transmit)
        tables = f'  [tunnel.ike]\n  version = "{version}"\n'
        self.other = network.gateway(site("a", start="respond", tables=tables))
        self.gateway = network.gateway(site("b", start="start", tables=tables))
        self.clock = self.gateway.clock
        self.engine: Any = self.gateway.site.gateway.engine

    def _transmit(self, datagram):
        if not (self.shut and datagram.destination.port == NAT_PORT):
            self._passes(datagram)

    def is_now(self):
        status = self.engine.ike.status("to-a")
        return status.state, status.encapsulation, status.encapsulation_why

    def warned(self):
        return any("its ESP goes as IP protocol 50" in text for text in self.gateway.site.gateway.conditions.texts)


@pytest.mark.parametrize("version", ["1", "2"])
def test_after_an_hour_what_is_up_goes_over_to_udp_where_that_passes_again(monkeypatch, version):
    with Network() as network:
        there = Blocked(network, monkeypatch, version)
        there.clock.advance(30)
        assert there.is_now() == ("up", "esp", "fallback")
        there.shut = False
        there.clock.advance(ANEW_S - 60)
        assert there.is_now() == ("up", "esp", "fallback")
        there.clock.advance(120)
        assert there.is_now() == ("up", "udp", "auto")
        assert not there.warned()


def test_so_it_does_where_the_peer_has_rekeyed_the_ike_sa(monkeypatch):
    with Network() as network:
        there = Blocked(network, monkeypatch, "2")
        there.clock.advance(30)
        there.other.rekey("to-b", ike=True)
        there.shut = False
        there.clock.advance(ANEW_S + 60)
        assert there.engine.ike.status("to-a").ike.role == "initiator"
        assert there.is_now() == ("up", "udp", "auto")


@pytest.mark.parametrize("version", ["1", "2"])
def test_where_udp_still_does_not_pass_what_is_up_stays_up_and_is_left_alone_for_an_hour(monkeypatch, version, caplog):
    with Network() as network:
        there = Blocked(network, monkeypatch, version)
        there.clock.advance(30)
        caplog.clear()
        for _ in range(round(2.5 * ANEW_S / STEP_S)):
            there.clock.advance(STEP_S)
            assert there.is_now() in {(state, "esp", "fallback") for state in UP}
        assert there.warned()
        assert sum(record.getMessage().startswith("no way for UDP") for record in caplog.records) == 2


@pytest.mark.parametrize("version", ["1", "2"])
def test_once_udp_passes_nothing_more_is_said_of_attempts_that_failed(monkeypatch, version):
    with Network() as network:
        there = Blocked(network, monkeypatch, version)
        there.clock.advance(1.5 * ANEW_S)
        there.shut = False
        there.clock.advance(ANEW_S)
        assert there.is_now() == ("up", "udp", "auto")
        assert there.engine.ike.status("to-a").last_error is None


def test_where_nothing_comes_back_it_is_called_anew(made, done):
    assert made(sa("up")).nothing_back("to-b")
    assert done.calls == [("nothing_back", "to-b", BETWEEN), ("restart", "to-b")]


@pytest.mark.parametrize(
    ("sas", "how"),
    [
        ((), {}),
        ((sa("negotiating"),), {}),
        ((sa("up", role="responder"),), {}),
        ((sa("up", encapsulation_why="nat"),), {}),
        ((sa("up", udp=False),), {}),
        ((sa("up"),), {"can_call": False}),
        ((sa("up"),), {"encapsulation": "udp"}),
    ],
)
def test_who_did_not_call_or_has_no_choice_stays(made, done, sas, how):
    assert not made(*sas, **how).nothing_back("to-b")
    assert done.of("restart") == []
