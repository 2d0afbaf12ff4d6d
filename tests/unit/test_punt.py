"""What the loops tell the control plane: two channels, the strangers' one limited for each source."""

from __future__ import annotations

import ipaddress

import pytest

from ipsec_dp.databases.sad_events import Acquire, IkeDatagram, UnknownSpi
from ipsec_dp.dataplane import Channel, DataPlane, Encapsulation, Endpoint, MemoryDatagram, PuntKind, SaCondition, SaFlag
from ipsec_dp.rig.plane import PlaneRig, pair, selectors_of
from tests.unit.sites import arrive, from_a, padded, seal, to_b

MARKER = bytes(4)  # RFC 3948 §2.2
NO_SA = (0x77777777).to_bytes(4) + bytes(36)


@pytest.fixture
def gateway():
    """Three punts at once for each stranger, one a second after that."""
    with PlaneRig("b", "192.0.2.2", stranger_rate=1, stranger_burst=3) as made:
        yield made


def stranger(address="198.51.100.1", port=500):
    return Endpoint(ipaddress.ip_address(address), port)


def send(gateway, data, count=1, source=None):
    arrive(gateway, *[MemoryDatagram(data, gateway.endpoint, source or stranger())] * count)
    return gateway.events(Channel.STRANGER)


# ---- IKE on the port of ESP


def test_ike_comes_without_its_marker_and_with_both_addresses(gateway):
    message = bytes(range(256)) * 8
    assert send(gateway, MARKER + message) == [IkeDatagram(gateway.link, gateway.endpoint, stranger(), message)]
    assert gateway.plane.counters().ike_in == 1
    assert gateway.drops == {}
    assert gateway.events(Channel.TRUSTED) == []


@pytest.mark.parametrize("octets", [0, 1, 65535 - 4])
def test_ike_of_any_size_comes_whole(gateway, octets):
    (event,) = send(gateway, MARKER + bytes(octets))
    assert isinstance(event, IkeDatagram)
    assert event.message == bytes(octets)


def test_three_zero_octets_are_no_marker(gateway):
    assert send(gateway, bytes(3)) == []
    assert gateway.drops == {"runt": 1}


# ---- unknown SPIs


def test_an_unknown_spi_is_told_with_where_it_came_from(gateway):
    assert send(gateway, NO_SA) == [UnknownSpi(0x77777777, gateway.endpoint, stranger())]
    assert gateway.drops == {"unknown_spi": 1}


def test_of_an_unknown_packet_256_octets_are_quoted(gateway):
    gateway.arrive(MemoryDatagram(NO_SA + bytes(1000), gateway.endpoint, stranger()))
    gateway.step()
    punt = gateway.plane.read_punt(Channel.STRANGER)
    assert punt is not None
    assert (punt.kind, punt.payload) == (PuntKind.UNKNOWN_SPI, (NO_SA + bytes(1000))[:256])
    assert (punt.link, punt.now, punt.interface) == (gateway.link, gateway.clock.ns, 2**32 - 1)


# ---- the limit


@pytest.mark.parametrize(
    ("data", "drops"), [(MARKER + b"ike", {"ike_limited": 7}), (NO_SA, {"unknown_spi": 10})], ids=["IKE", "unknown SPI"]
)
def test_a_stranger_may_cause_only_so_many(gateway, data, drops):
    assert len(send(gateway, data, 10)) == 3
    assert gateway.plane.counters().punts_limited == 7
    assert gateway.drops == drops


def test_tokens_come_back_with_time_and_never_more_than_the_burst(gateway):
    send(gateway, NO_SA, 10)
    assert send(gateway, NO_SA) == []
    gateway.clock.advance(0.9)
    assert send(gateway, NO_SA) == []
    gateway.clock.advance(0.1)
    assert len(send(gateway, NO_SA, 5)) == 1
    gateway.clock.advance(1000)
    assert len(send(gateway, NO_SA, 10)) == 3


def test_the_limit_is_of_a_source_whatever_its_port_and_whatever_it_sends(gateway):
    assert len(send(gateway, NO_SA, 2, stranger(port=1))) == 2
    assert len(send(gateway, MARKER + b"ike", 2, stranger(port=2))) == 1
    assert len(send(gateway, NO_SA, 4, stranger("203.0.113.77"))) == 3


def test_ipv6_sources_count_by_their_64_bit_prefix(gateway):
    assert len(send(gateway, NO_SA, 4, stranger("2001:db8::1"))) == 3
    assert send(gateway, NO_SA, 1, stranger("2001:db8::ffff:1")) == []
    assert len(send(gateway, NO_SA, 1, stranger("2001:db8:0:1::1"))) == 1


def test_a_flood_from_one_source_leaves_nearly_all_others_alone(gateway):
    """1,024 buckets: another source shares the busy one with a chance of one in 1,024."""
    send(gateway, NO_SA, 100)
    others = [stranger(f"203.0.113.{host}") for host in range(200)]
    told = sum(len(send(gateway, NO_SA, 1, other)) for other in others)
    assert told >= 190


def test_the_limit_holds_from_the_clocks_beginning():
    with DataPlane(sa_slots=256, tunnels=1, interfaces=1, stranger_rate=1, stranger_burst=3) as plane:
        link = plane.attach_memory_link(Encapsulation.UDP)
        for _ in range(5):
            plane.push_link(link, MemoryDatagram(NO_SA, None, stranger()))
        plane.step_inbound(0)
        assert plane.counters().punts_limited == 2


# ---- full channels


def test_ike_that_finds_the_channel_full_is_dropped_and_counted():
    with PlaneRig("b", "192.0.2.2", stranger_burst=10**6) as gateway:
        big = MemoryDatagram(MARKER + bytes(60000), gateway.endpoint, stranger())
        for _ in range(200):
            arrive(gateway, big)
            if gateway.drops:
                break
        assert gateway.drops == {"punt_full": 1}
        assert gateway.plane.counters().punts_lost == 1
        assert len(gateway.events(Channel.STRANGER)) > 0
        arrive(gateway, big)
        assert gateway.drops == {"punt_full": 1}


def test_strangers_do_not_fill_the_channel_of_the_trusted():
    with pair(stranger_burst=10**6) as site:
        while not site.b.drops:
            arrive(site.b, MemoryDatagram(MARKER + bytes(60000), site.b.endpoint, stranger()))
        arrive(site.b, from_a(site, seal(site, padded(to_b(), 4), 1)))
        moved = MemoryDatagram(seal(site, padded(to_b(), 4), 2), site.b.endpoint, stranger(port=4501))
        arrive(site.b, moved)
        (event,) = site.b.events(Channel.TRUSTED)
        assert isinstance(event, SaCondition)
        assert event.flags is SaFlag.PEER_MOVED


def fill_trusted(gateway):
    """ACQUIREs until the channel is full."""
    while gateway.plane.counters().punts_lost == 0:
        gateway.plane.take_acquire(0)
        gateway.push(to_b(bytes(200)))
        gateway.step()


def test_a_condition_whose_punt_was_lost_is_found_by_the_rescan():
    """A full channel delays a rekey and never loses it."""
    with pair() as site:
        outbound = site.outbound("b")
        site.b.sad.switch(site.children["b"], None)
        site.b.protect(selectors_of("a"))
        fill_trusted(site.b)
        site.b.protect(selectors_of("b"))
        site.b.sad.switch(site.children["b"], outbound)
        arrive(site.b, from_a(site, seal(site, padded(to_b(), 4), 1)))
        arrive(site.b, MemoryDatagram(seal(site, padded(to_b(), 4), 2), site.b.endpoint, stranger()))
        told = []
        while batch := site.b.events(Channel.TRUSTED):
            told += batch
        assert {type(event) for event in told} == {Acquire}
        assert list(site.b.sad.rescan()) == [SaCondition(site.inbound("b"), 0, site.spis["b"], SaFlag.PEER_MOVED)]


def test_a_reader_takes_so_many_at_once_and_the_rest_later(gateway):
    gateway.protect(selectors_of("a"))
    for _ in range(300):
        gateway.plane.take_acquire(0)
        gateway.push(to_b())
        gateway.step()
    assert [len(gateway.events()) for _ in range(3)] == [256, 44, 0]
