"""Live SAs whose numbers a rig moves on purpose, SPIs that come again, and limits that are passed over."""

from __future__ import annotations

import pytest

from ipsec_dp.rig import Network, RigError, impair
from ipsec_dp.rig.packets import udp
from tests.unit.rig_sites import site, sites, spis_of

HELLO, BACK = udp("10.1.0.5", "10.2.0.5", b"hello"), udp("10.2.0.5", "10.1.0.5", b"back")
ESP = '  [tunnel.esp]\n  proposals = ["{}"]\n'
SHORT = '  [tunnel.ike]\n  lifetime = "10m"\n  [tunnel.esp]\n  lifetime = "5m"\n'
END = impair.SEQUENCE_END


def crossing(a, b, count):
    """How many of so many packets arrive."""
    for _ in range(count):
        a.inject(HELLO)
    a.clock.advance(0.1)
    return len(b.received())


def kinds(gateway):
    return [str(event.kind) for event in gateway.events()]


# ---- sequence numbers


@pytest.mark.parametrize(("suite", "reason"), [("aes128gcm16-noesn", "too_old"), ("aes128gcm16-esn", "icv")])
def test_numbers_jump_in_a_live_sa_and_packets_go_on(suite, reason):
    """A receiver moves its window as far as the sender does (RFC 4303 §3.4.3). What was sent before is too old then; with ESN it
    looks like one of the next 2^32 (appendix A2)."""
    with sites(tables=ESP.format(suite)) as (a, b):
        wire = a.network.wire
        assert crossing(a, b, 3) == 3
        late = impair.delay(wire, impair.nth(impair.esp(sender="a"), 1), 5.0)
        assert crossing(a, b, 1) == 0
        impair.jump(a, 1_000_000)
        assert crossing(a, b, 3) == 3
        assert a.sas()[0].sequence_out == 1_000_007
        a.clock.advance(6)
        assert (late.hits, b.received(), b.counters().get(reason)) == (1, [], 1)
        assert a.sas()[0].packets_out == 7, "nothing was sent for those between"


def test_a_jump_has_no_more_numbers_than_the_sa():
    with sites(tables=ESP.format("aes128gcm16-noesn")) as (a, _):
        with pytest.raises(RigError, match="sequence numbers"):
            impair.jump(a, END)
        for wrong in (0, -5):
            with pytest.raises(RigError, match="can go on there"):
                impair.jump(a, wrong)
        with pytest.raises(RigError, match="no tunnel 'other'"):
            impair.jump(a, 1, "other")
    with sites(start="respond", up=False) as (a, _), pytest.raises(RigError, match="can go on there"):
        impair.jump(a, 1)


def test_a_jump_over_the_high_half_of_an_esn_is_lost_and_one_within_is_not():
    """The high half is not in the packet: whoever misses 2^32 numbers takes the wrong one (RFC 4303 §3.4.3, appendix A)."""
    with sites(tables=ESP.format("aes128gcm16-esn")) as (a, b):
        assert crossing(a, b, 3) == 3
        impair.jump(a, END - 10)
        assert crossing(a, b, 20) == 20
        impair.jump(a, 2 * END)
        assert crossing(a, b, 5) == 0
        assert b.counters()["icv"] == 5


@pytest.mark.parametrize("suite", ["aes128gcm16-esn", "aes128-sha256-esn"])
def test_traffic_goes_on_over_2_32_with_esn(suite):
    """RFC 4303 §2.2.1."""
    with sites(tables=ESP.format(suite)) as (a, b):
        spi = a.sas()[0].spi_out
        impair.jump(a, END - 100)
        assert crossing(a, b, 200) == 200
        assert (a.sas()[0].sequence_out, a.sas()[0].spi_out) == (END + 100, spi), "by one SA"
        assert "CHILD_SA rekeyed" not in kinds(a)


@pytest.mark.parametrize("suite", ["aes128gcm16-noesn", "aes128-sha256-noesn"])
def test_traffic_ends_before_2_32_without_esn_unless_there_are_new_keys(suite):
    """A sender never lets the number come again (RFC 4303 §3.3.3)."""
    with sites(tables=ESP.format(suite)) as (a, b), impair.ignore_expiry(a) as ignored:
        impair.jump(a, END - 1 - 100)
        assert sum(crossing(a, b, 1) for _ in range(150)) == 100
        assert a.sas()[0].sequence_out == END - 1
        assert a.counters()["sequence_exhausted"] == 50
        assert ignored.hits >= 1
        ignored.end()
        a.rekey()
        a.wait("CHILD_SA rekeyed")
        assert crossing(a, b, 10) == 10
    with sites(tables=ESP.format(suite)) as (a, b):
        impair.jump(a, END - 1 - 100)
        assert sum(crossing(a, b, 1) for _ in range(150)) == 150, "three quarters of the numbers were the time to ask for new keys"
        assert "CHILD_SA rekeyed" in kinds(a)


# ---- SPIs


def test_an_spi_comes_again_and_what_was_sent_by_it_before_is_not_taken():
    with sites() as (a, b):
        spi = b.sas()[0].spi_in or ""
        with pytest.raises(RigError, match="has an SA by SPI"):
            impair.reuse_spi(b, spi)
        old = impair.delay(a.network.wire, impair.nth(impair.esp(sender="a"), 1), 30.0)
        a.inject(HELLO)
        a.rekey()
        a.wait("CHILD_SA rekeyed")
        a.clock.advance(10)
        again = impair.reuse_spi(b, spi)
        a.rekey()
        a.wait("CHILD_SA rekeyed")
        a.clock.advance(10)
        assert (again.hits, b.sas()[0].spi_in, a.sas()[0].spi_out) == (1, spi, spi)
        a.clock.advance(15)
        assert (old.hits, b.received(), b.counters().get("icv")) == (1, [], 1), "its key is another"
        assert crossing(a, b, 5) == 5


def test_two_peers_may_choose_one_spi():
    """It is the receiver's alone (RFC 4303 §2.1)."""
    second = site("b").replace("192.0.2.2", "192.0.2.3").replace("10.2.", "10.3.").replace('"b', '"c')
    tunnel = site("a").replace("192.0.2.2", "192.0.2.3").replace("10.2.", "10.3.").replace("to-b", "to-c").replace('"b.', '"c.')
    with Network() as network:
        b, c = network.gateway(site("b")), network.gateway(second)
        first = impair.reuse_spi(b, 0x1234), impair.reuse_spi(c, 0x1234)
        a = network.gateway(site("a") + tunnel.partition("[[tunnel]]")[1] + tunnel.partition("[[tunnel]]")[2])
        for name in ("to-b", "to-c"):
            a.wait("up", tunnel=name)
        assert [fault.hits for fault in first] == [1, 1]
        assert {sa.spi_out for sa in a.sas()} == {b.sas()[0].spi_in} == {c.sas()[0].spi_in}
        for packet, there in ((HELLO, b), (udp("10.1.0.5", "10.3.0.5", b"c"), c)):
            a.inject(packet)
            there.wait("packet")
            assert there.received() == [packet]


def test_an_spi_that_was_not_taken_is_free_again():
    with sites() as (_, b):
        with impair.reuse_spi(b, 0x5005) as unused:
            pass
        assert unused.hits == 0
        impair.reuse_spi(b, 0x5005)
        b.rekey()
        b.wait("CHILD_SA rekeyed")
        assert int(b.sas()[-1].spi_in or "", 16) == 0x5005


# ---- limits


@pytest.mark.parametrize("version", ["2", "1"])
def test_whoever_ignores_soft_limits_asks_for_nothing(version):
    tables = SHORT.replace("[tunnel.ike]\n", f'[tunnel.ike]\n  version = "{version}"\n')
    with sites(tables=tables) as (a, b):
        first = a.sas()[0].spi_in
        with impair.ignore_expiry(a, hard=False) as late, impair.ignore_expiry(b, hard=False):
            a.clock.advance(299)
            assert (a.sas()[0].spi_in, late.hits >= 1) == (first, True)
            a.inject(HELLO)
            b.wait("packet")
            a.clock.advance(10)
            assert first not in {sa.spi_in for sa in a.sas()}, "the hard limit is kept"
        a.wait("up", timeout=300)


def test_a_peer_asks_where_we_do_not():
    with sites(tables=SHORT) as (a, b), impair.ignore_expiry(a) as ignored:
        first = a.sas()[0].spi_in
        a.clock.advance(320)
        assert ignored.hits >= 1
        assert first not in {sa.spi_in for sa in a.sas()}
        assert (len(a.sas()), len(b.sas())) == (1, 1)


@pytest.mark.parametrize("version", ["2", "1"])
def test_sas_outlive_their_hard_limits_where_both_sides_ignore_them(version):
    tables = SHORT.replace("[tunnel.ike]\n", f'[tunnel.ike]\n  version = "{version}"\n')
    with sites(tables=tables) as (a, b), impair.ignore_expiry(a), impair.ignore_expiry(b):
        spis = a.sas()[0].spi_in, spis_of(a)
        a.clock.advance(3600)
        assert (a.sas()[0].spi_in, spis_of(a)) == spis
        assert crossing(a, b, 5) == 5
        assert "IKE SA down" not in kinds(a)


def test_limits_in_packets_are_passed_over_by_sas_that_are_made_meanwhile():
    tables = "  [tunnel.esp]\n  life_packets = 20\n"
    with sites(tables=tables, up=False) as (a, b), impair.ignore_expiry(a), impair.ignore_expiry(b):
        a.wait("up")
        spi = a.sas()[0].spi_in
        assert sum(crossing(a, b, 1) for _ in range(60)) == 60
        assert a.sas()[0].spi_in == spi
    with sites(tables=tables) as (a, b):
        spi = a.sas()[0].spi_in
        assert sum(crossing(a, b, 1) for _ in range(60)) == 60
        assert a.sas()[0].spi_in != spi
