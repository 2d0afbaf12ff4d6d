"""Whole gateways in memory: what a person's tests ask of them, and what is said where they are used wrongly."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading

import pytest

from ipsec_dp.errors import ConfigError
from ipsec_dp.rig import Clock, Gateway, Network, RigError, Wire, impair
from ipsec_dp.rig.packets import udp
from tests.unit.rig_sites import site, sites

HELLO, BACK = udp("10.1.0.5", "10.2.0.5", b"hello"), udp("10.2.0.5", "10.1.0.5", b"back")


def test_two_gateways_of_two_texts_carry_a_packet_each_way():
    wire = Wire()
    with Gateway(site("b"), wire=wire) as b, Gateway(site("a"), wire=wire) as a:
        a.wait("up")
        a.inject(HELLO)
        b.wait("packet")
        b.inject(BACK)
        a.wait("packet")
        assert (b.received(), a.received()) == ([HELLO], [BACK])
        assert b.received() == [], "each is given once"
        (sa,) = a.sas()
        assert (sa.packets_out, sa.packets_in, sa.suite) == (1, 1, "aes256gcm16")
        assert b.sas()[0].spi_in == sa.spi_out


def test_a_call_a_rekey_and_an_end_are_what_the_driver_does():
    with sites(start="respond", up=False) as (a, b):
        a.initiate()
        a.wait("up")
        before = a.sas()[0].spi_in
        a.rekey()
        a.wait("CHILD_SA rekeyed")
        a.wait(lambda: len(a.sas()) == 1 and len(b.sas()) == 1)
        assert a.sas()[0].spi_in != before
        spis = a.tunnel().ike
        b.rekey(ike=True)
        b.wait("IKE SA rekeyed")
        a.wait("IKE SA rekeyed")
        assert a.tunnel().ike != spis
        a.terminate()
        b.wait("IKE SA down")
        assert (a.sas(), b.sas()) == ((), ())


def test_a_reload_takes_over_what_differs():
    with sites() as (a, b):
        result = a.reload(site("a", start="respond"))
        assert [change.name for change in result.changed] == ["to-b"]
        assert len(a.sas()) == 1
        with pytest.raises(ConfigError, match="unknown key"):
            a.reload(site("a") + "\n[gatewau]\n[[tunnel]]\nnam = 1\n")
        assert b.tunnel().state == "up"


def test_what_decides_about_a_packet_is_explained():
    with sites() as (a, _):
        explained = a.explain("10.1.0.5", "10.2.0.5")
        assert (explained.verdict, explained.sa is not None and explained.sa.tunnel) == ("protect", "to-b")
        assert a.explain("10.1.0.5", "198.51.100.9").verdict == "clear"


def test_captures_keys_and_counters_are_those_of_what_was_sent():
    with sites() as (a, b):
        a.inject(HELLO)
        b.wait("packet")
        counters = b.counters()
        assert counters["packets_in"] == 1
        keys = set(a.keylog().splitlines())
        assert len(keys) == 2
        assert all(line.count('"') == 16 for line in keys)
        assert len(a.capture()) > 5 * 40, "four messages of IKE and a packet"
        assert "|-- IKE_SA_INIT request 0, 448 ---" in a.network.ladder()


def test_nothing_is_left_and_nothing_of_the_machine_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with sites() as (a, _):
        assert a.sas()
        assert threading.active_count() == threads
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == files


def test_it_runs_beside_an_event_loop_of_its_caller():
    async def life() -> list[bytes]:
        with sites() as (a, b):
            a.inject(HELLO)
            b.wait("packet")
            assert asyncio.current_task() is not None
            await asyncio.sleep(0)
            return b.received()

    assert asyncio.run(life()) == [HELLO]


# ---- used wrongly


def test_a_gateway_that_is_closed_says_so():
    with sites() as (a, b):
        a.close()
        a.close()
        for ask in (a.sas, a.received, a.initiate, a.status, a.keylog, lambda: a.inject(HELLO), lambda: a.wait("up")):
            with pytest.raises(RigError, match="gateway a is closed"):
                ask()
        b.wait("IKE SA down")  # the peer is told


def test_a_clock_does_not_go_back():
    with sites() as (a, _), pytest.raises(ValueError, match="does not go back"):
        a.clock.advance(-1)


@pytest.mark.parametrize("seconds", [float("inf"), float("nan")])
def test_time_without_an_end_is_refused_before_anything_is_waited_for(seconds):
    with sites() as (a, _):
        for move in (a.clock.advance, a.clock.leap, a.network.advance, Clock().advance):
            with pytest.raises(ValueError, match="say how many"):
                move(seconds)
        for awaited in ("packet", lambda: False):
            with pytest.raises(RigError, match="say how many seconds"):
                a.wait(awaited, timeout=seconds)
        with pytest.raises(RigError, match="time does not go back"):
            a.wait("packet", timeout=-1)
        with pytest.raises(RigError, match="before it was sent"):
            Wire(delay=seconds)
        with pytest.raises(RigError, match="before it was sent"):
            impair.delay(a.network.wire, impair.everything, seconds)
        assert a.clock.advance(1) == a.clock.ns, "and it goes on"


def test_two_ends_of_one_name_are_refused_at_once():
    wire = Wire()
    with Gateway(site("a"), wire=wire), pytest.raises(RigError, match="two ends of the name 'a'"):
        Gateway(site("a"), wire=wire)


def test_one_address_of_two_gateways_is_refused():
    with Network() as network:
        network.gateway(site("a"))
        with pytest.raises(RigError, match=r"both have the address 192\.0\.2\.1"):
            network.gateway(site("a").replace('name = "a"', 'name = "c"'))


def test_two_clocks_are_refused():
    wire = Wire()
    with Gateway(site("a"), wire=wire), pytest.raises(RigError, match="one clock"):
        Gateway(site("b"), wire=wire, clock=Clock())


def test_what_cannot_come_is_said_at_once_and_who_waits_for_what():
    with sites(start="respond", up=False) as (a, _):
        with pytest.raises(RigError, match="there is no event 'upp'"):
            a.wait("upp")
        with pytest.raises(RigError, match="no tunnel 'to-c'; there are: to-b"):
            a.wait("up", tunnel="to-c")
        before = a.clock.now()
        with pytest.raises(RigError, match=r"cannot come: nothing is to come any more: .*tunnel \"to-a\".*tasks:") as raised:
            a.wait("up", timeout=1e9)
        assert "Calls._tick > GatewayClock.pause" in str(raised.value)
        assert a.clock.now() < before + 60


def test_what_does_not_come_in_time_is_told_with_the_story():
    with sites(up=False) as (a, _):
        a.network.wire.cut()
        with pytest.raises(RigError, match="waited 20 s for the state 'up' in vain") as raised:
            a.wait("up", timeout=20)
        assert "IKE_SA_INIT request 0, 448 octets  lost" in str(raised.value)


def test_a_packet_without_a_route_and_one_that_is_none_are_refused():
    with sites() as (a, _):
        with pytest.raises(RigError, match=r"no route of gateway a leads to 198\.51\.100\.1"):
            a.inject(udp("10.1.0.5", "198.51.100.1"))
        with pytest.raises(RigError, match="no IP packet"):
            a.inject(b"hello")


def test_a_configuration_that_is_wrong_is_refused_as_ever_and_leaves_nothing():
    network = Network()
    with network, pytest.raises(ConfigError, match="psk_file"):
        network.gateway(site("a").replace('psk_file = "site.psk"', "psk_file = 1"))
    with pytest.raises(RigError, match="the network is closed"):
        network.gateway(site("a"))


def test_the_former_name_says_where_it_is_now():
    from ipsec_dp.rig import gateway as former
    from ipsec_dp.rig.plane import PlaneRig

    with pytest.warns(DeprecationWarning, match=r"ipsec_dp\.rig\.plane\.PlaneRig"):
        assert former.Gateway is PlaneRig
    with pytest.raises(AttributeError, match="nothing"):
        _ = former.nothing
