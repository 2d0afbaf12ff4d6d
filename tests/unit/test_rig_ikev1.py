"""Tunnels by IKEv1 in memory: main mode, aggressive mode, and IKEv2 preferred with a peer that speaks nothing but IKEv1."""

from __future__ import annotations

from functools import partial

import pytest

from ipsec_dp.rig import Gateway, Network, Wire
from ipsec_dp.rig.packets import udp
from tests.unit.rig_sites import site, sites

HELLO, BACK = udp("10.1.0.5", "10.2.0.5", b"hello"), udp("10.2.0.5", "10.1.0.5", b"back")
IKE = '  [tunnel.ike]\n  version = "{}"\n{}'
MAIN, AGGRESSIVE, QUICK, INIT = 2, 4, 32, 34  # exchange types (RFC 2408 §3.1, RFC 7296 §3.1)


def met(network):
    """(version, exchange) of the IKE messages that were sent, each once, in order."""
    sent = [each.passing.datagram for each in network.log if each.passing.datagram.ike]
    messages = [
        datagram.data if 500 in (datagram.source.port, datagram.destination.port) else datagram.data[4:] for datagram in sent
    ]
    return list(dict.fromkeys((message[17] >> 4, message[18]) for message in messages))


def are_other(gateway, spis):
    """Whether none of its SAs has one of these."""
    return not spis & {sa.spi_in for sa in gateway.sas()}


def ike_of(gateway):
    """(version, whether it is a fallback, SPI) of its IKE SA."""
    ike = gateway.tunnel().ike
    return (None, False, None) if ike is None else (ike.version, bool(ike.fallback), ike.spi_i)


@pytest.mark.parametrize(("mode", "exchange"), [("", MAIN), ('  mode = "aggressive"\n', AGGRESSIVE)])
def test_ikev1_comes_up_carries_rekeys_and_ends(mode, exchange):
    with sites(Wire(loss=0.05, seed=2), tables=IKE.format("1", mode)) as (a, b):
        assert met(a.network)[0] == (1, exchange)
        assert {version for version, _ in met(a.network)} == {1}
        assert ike_of(a)[0] == 1
        a.network.wire.loss = 0
        for _ in range(2):
            a.inject(HELLO)
            b.wait("packet")
            b.inject(BACK)
            a.wait("packet")
            assert (b.received(), a.received()) == ([HELLO], [BACK])
            before = {sa.spi_in for sa in a.sas()}
            a.rekey()
            a.wait(partial(are_other, a, before), timeout=120)
        cookies = ike_of(a)[2]
        a.rekey(ike=True)
        a.wait(lambda: ike_of(a)[2] not in (None, cookies))
        a.terminate()
        b.wait("IKE SA down")
        assert (a.sas(), b.sas()) == ((), ())


def test_ikev1_outlives_hours_of_loss():
    with sites(Wire(loss=0.1, reorder=0.1, seed=1), tables=IKE.format("1", "")) as (a, b):
        a.clock.advance(2 * 3600)
        a.network.wire.loss = 0
        a.wait("up", timeout=600)
        a.inject(HELLO)
        b.wait("packet")


def test_ikev2_is_preferred_and_ikev1_is_spoken_with_who_knows_nothing_else():
    with Network() as network:
        b = network.gateway(site("b", tables=IKE.format("1", "")))
        a = network.gateway(site("a", tables=IKE.format("2-preferred", "")))
        a.wait("up", timeout=600)
        assert met(network)[0] == (2, INIT)
        assert (1, MAIN) in met(network)
        assert ike_of(a)[:2] == (1, True)
        a.inject(HELLO)
        b.wait("packet")
        assert b.received() == [HELLO]


def test_ikev2_is_spoken_where_both_can_and_never_left_again(tmp_path, monkeypatch):
    """A rig remembers that itself, and writes nothing down on its host."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    tables = IKE.format("2-preferred", "")
    with sites(tables=tables) as (a, b):
        assert {version for version, _ in met(a.network)} == {2}
        assert ike_of(a)[:2] == (2, False)
        b.close()
        a.network.log.clear()
        Gateway(site("b", tables=IKE.format("1", "")), network=a.network)
        a.clock.advance(600)
        assert {version for version, _ in met(a.network)} == {2}
        assert a.tunnel().state != "up"
    assert list(tmp_path.rglob("*")) == []


def test_a_ladder_has_no_requests_of_ikev1_and_every_octet():
    with sites(Wire(seed=3), tables=IKE.format("1", "")) as (a, _):
        drawn = a.network.ladder()
        quick = [each.passing.datagram for each in a.network.log if each.passing.datagram.data[18] == QUICK]
    assert "|-- IKEv1 main mode, " in drawn
    assert not any(word in drawn for word in ("request", "response"))
    for datagram in quick:
        assert f"IKEv1 quick mode {int.from_bytes(datagram.data[20:24]):#010x}, {datagram.octets} " in drawn
