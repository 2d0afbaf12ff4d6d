"""Lifetimes of SAs: octets, packets, sequence numbers, and the end of all of them (RFC 4301 §4.4.2.1, RFC 4303 §3.3.3)."""

from __future__ import annotations

import pytest

from ipsec_dp.dataplane import Limits, SaCondition, SaFlag
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.rig.plane import pair
from tests.unit.sites import inbound, install_inbound_anew, outbound, sequence_of, to_a, to_b

PACKET = to_b(bytes(72))  # 100 octets
assert len(PACKET) == 100
LAST = {"aes128gcm16": 2**32 - 1, "aes128gcm16-esn": 2**64 - 1}


def send(site, count=1):
    """The datagrams that `count` packets of 100 octets leave as."""
    site.a.push(*[PACKET] * count)
    site.a.step()
    return site.a.sent()


def conditions(gateway):
    return [(event.spi, event.flags) for event in gateway.events() if isinstance(event, SaCondition)]


@pytest.mark.parametrize("limits", [Limits(hard_packets=3), Limits(hard_octets=300), Limits(hard_octets=399)])
def test_a_hard_limit_stops_sending_for_good(limits):
    with pair(limits=limits) as site:
        assert len(send(site, 5)) == 3
        assert site.a.drops == {"hard_limit": 2}
        assert outbound(site).drops["hard_limit"] == 2
        assert (outbound(site).packets, outbound(site).octets, outbound(site).sequence) == (3, 300, 3)
        assert SaFlag.HARD_LIMIT in outbound(site).flags
        site.clock.advance(3600)
        assert send(site) == []


def test_the_octet_limit_counts_the_packet_that_would_cross_it():
    with pair(limits=Limits(hard_octets=150)) as site:
        assert len(send(site, 2)) == 1


@pytest.mark.parametrize("limits", [Limits(hard_packets=3), Limits(hard_octets=300)])
def test_a_hard_limit_stops_receiving_for_good(limits):
    """Even from a peer that sends on: its own limits may be wider."""
    with pair() as site:
        install_inbound_anew(site, limits=limits)
        assert len(site.transfer([PACKET] * 5)) == 3
        assert site.b.drops == {"hard_limit": 2}
        assert conditions(site.b) == [(site.spis["b"], SaFlag.HARD_LIMIT)]


@pytest.mark.parametrize("limits", [Limits(soft_packets=3), Limits(soft_octets=300), Limits(soft_octets=201)])
def test_a_soft_limit_raises_a_flag_and_tells_once_on_each_side(limits):
    with pair(limits=limits) as site:
        site.transfer([PACKET] * 2)
        assert (outbound(site).flags, inbound(site).flags) == (SaFlag(0), SaFlag(0))
        assert len(site.transfer([PACKET] * 3)) == 3
        assert (outbound(site).flags, inbound(site).flags) == (SaFlag.SOFT_LIMIT, SaFlag.SOFT_LIMIT)
        assert conditions(site.a) == [(site.spis["b"], SaFlag.SOFT_LIMIT)]
        assert conditions(site.b) == [(site.spis["b"], SaFlag.SOFT_LIMIT)]
        assert site.a.drops == {}


def test_a_flag_stays_until_it_was_acted_on_and_may_then_be_raised_again():
    with pair(limits=Limits(soft_packets=1)) as site:
        handle = site.outbound("a")
        send(site, 3)
        assert site.a.plane.conditions()[0].flags is SaFlag.SOFT_LIMIT
        assert list(site.a.sad.rescan()) == [SaCondition(handle, 0, site.spis["b"], SaFlag.SOFT_LIMIT)]
        assert list(site.a.sad.rescan()) == []
        assert site.a.events() == []  # what the scan told, the punt does not tell again
        site.a.sad.acted(handle, SaFlag.SOFT_LIMIT)
        assert outbound(site).flags == SaFlag(0)
        assert site.a.plane.conditions() == []
        send(site, 2)
        assert conditions(site.a) == [(site.spis["b"], SaFlag.SOFT_LIMIT)]


def test_soft_and_hard_are_told_one_after_the_other():
    with pair(limits=Limits(soft_packets=1, hard_packets=2)) as site:
        send(site, 4)
        assert conditions(site.a) == [(site.spis["b"], SaFlag.SOFT_LIMIT), (site.spis["b"], SaFlag.HARD_LIMIT)]
        assert outbound(site).flags == SaFlag.SOFT_LIMIT | SaFlag.HARD_LIMIT


def test_without_limits_nothing_is_raised():
    with pair() as site:
        assert len(site.transfer([PACKET] * 200)) == 200
        assert (outbound(site).flags, inbound(site).flags) == (SaFlag(0), SaFlag(0))


@pytest.mark.parametrize("suite", LAST)
def test_sequence_numbers_never_cycle(suite):
    last = LAST[suite]
    with pair(suite, sequence=last - 2) as site:
        assert [sequence_of(d) for d in send(site, 5)] == [0xFFFFFFFE, 0xFFFFFFFF]
        assert outbound(site).sequence == last
        assert SaFlag.SEQUENCE_EXHAUSTED in outbound(site).flags
        assert site.a.drops == {"sequence_exhausted": 3}
        site.a.sad.acted(site.outbound("a"), SaFlag.SEQUENCE_EXHAUSTED)
        assert send(site) == []
        assert outbound(site).sequence == last


def test_esn_goes_on_where_32_bits_end():
    with pair("aes128gcm16-esn", sequence=2**32 - 3) as site:
        packets = [to_b(bytes([i])) for i in range(6)]
        assert site.transfer(packets) == packets
        assert (outbound(site).sequence, inbound(site).sequence) == (2**32 + 3, 2**32 + 3)


@pytest.mark.parametrize("suite", LAST)
def test_three_quarters_of_the_sequence_numbers_ask_for_a_rekey(suite):
    with pair(suite, sequence=LAST[suite] // 4 * 3 - 1) as site:
        send(site)
        assert outbound(site).flags == SaFlag(0)
        send(site, 2)
        assert conditions(site.a) == [(site.spis["b"], SaFlag.SEQUENCE_SOFT)]


def test_without_esn_a_sequence_number_above_32_bits_is_refused():
    with pytest.raises(DataPlaneError, match="Invalid argument"):
        pair("aes128gcm16", sequence=2**32)


def test_expire_all_ends_every_sa_at_once_and_for_good():
    """A cloned virtual machine would use nonces that the original uses too."""
    with pair() as site:
        assert len(site.transfer([PACKET])) == 1
        (datagram,) = send(site)
        site.a.plane.expire_all()
        assert send(site) == []
        assert site.a.drops == {"guest_cloned": 1}
        assert outbound(site).sequence == 2
        site.b.plane.expire_all()
        site.wire.send("a", "b", datagram)
        site.exchange()
        assert site.b.pulled() == []
        assert site.b.drops == {"guest_cloned": 1}


def test_sas_made_after_expire_all_work():
    with pair() as site:
        site.a.plane.expire_all()
        site.b.plane.expire_all()
        site.install_inbound()
        site.switch()
        assert site.transfer([PACKET]) == [PACKET]


def test_first_and_last_use_are_those_of_authentic_packets():
    with pair() as site:
        assert (inbound(site).first_use, inbound(site).last_use) == (0, 0)
        first = site.clock.advance(5)
        site.transfer([PACKET])
        last = site.clock.advance(7)
        site.transfer([PACKET])
        for info in (outbound(site), inbound(site)):
            assert (info.first_use, info.last_use) == (first, last)


# ---- make before break


def rekey(site):
    """In the order of a CREATE_CHILD_SA exchange: both receive by the new keys before anybody sends by them."""
    old = {name: child.inbound for name, child in site.children.items()}
    site.install_inbound()
    return old


def test_old_and_new_inbound_sas_receive_at_once():
    with pair() as site:
        (late,) = send(site)
        rekey(site)
        before = site.transfer([to_b(b"by the old")])
        site.switch()
        after = site.transfer([to_b(b"by the new")])
        assert (before, after) == ([to_b(b"by the old")], [to_b(b"by the new")])
        site.wire.send("a", "b", late)
        site.exchange()
        assert site.b.pulled() == [PACKET]
        assert site.b.drops == {}


def test_a_switch_is_one_call_and_the_next_packet_takes_the_new_sa():
    with pair() as site:
        old = site.spis["b"]
        rekey(site)
        new = site.spis["b"]
        before = send(site)
        site.switch()
        after = send(site)
        assert [int.from_bytes(d.data[:8]) for d in (*before, *after)] == [old << 32 | 1, new << 32 | 1]


@pytest.mark.parametrize("suite", ["aes128gcm16", "aes256-sha256-esn"])
def test_no_packet_is_lost_over_many_rekeys_under_traffic_both_ways(suite):
    with pair(suite) as site:
        keys = site.b.plane.arena().in_use
        sent, arrived = [], []
        for number in range(20):
            packets = [to_b(bytes([number, i])) for i in range(9)]
            arrived += site.transfer(packets[:3])
            site.a.push(*packets[3:6])
            site.a.step()
            site.carry(site.a)  # in flight during the whole rekey
            old = rekey(site)
            back = [to_a(bytes([number, i])) for i in range(4)]
            assert site.transfer(back[:2], back=True) == back[:2]
            arrived += site.b.pulled() + site.transfer(packets[6:8])
            site.switch()
            assert site.transfer(back[2:], back=True) == back[2:]
            arrived += site.transfer(packets[8:])
            sent += packets
            for gateway in (site.a, site.b):
                gateway.sad.remove(old[gateway.name])
                assert gateway.sad.reclaim() == 0
        assert arrived == sent
        assert (site.a.drops, site.b.drops) == ({}, {})
        assert site.b.plane.arena().in_use == keys
