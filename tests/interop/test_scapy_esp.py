"""ESP against scapy's implementation, in memory: what either seals, the other opens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.ipsec import IPSecIntegrityError

from ipsec_dp.dataplane import Encapsulation, MemoryDatagram, Provider
from ipsec_dp.rig.packets import udp_of_size
from ipsec_dp.rig.plane import Pair, keymat, pair
from tests.interop.scapy_peer import ALL_SUITES, association, open_datagram, seal_packet

HOSTS = {4: ("10.1.0.1", "10.2.0.1"), 6: ("2001:db8:1::1", "2001:db8:2::1")}
ESN = ["", "-esn"]


def peer(site: Pair, sender: str):
    """scapy's view of the SA by which a gateway sends."""
    source, receiver = (site.a, site.b) if sender == "a" else (site.b, site.a)
    key = bytes(keymat(site.suite, f"to {receiver.name} 1"))
    addresses = str(source.endpoint.address), str(receiver.endpoint.address)
    return association(site.suite, site.spis[receiver.name], key, *addresses, source.encapsulation)


def ours_opens_there(site: Pair, inner: list[bytes], first: int) -> None:
    site.a.push(*inner)
    site.a.step()
    sa = peer(site, "a")
    opened = [
        open_datagram(sa, datagram.data, site.a.encapsulation, first + number) for number, datagram in enumerate(site.a.sent())
    ]
    assert opened == inner


def theirs_opens_here(site: Pair, inner: list[bytes], first: int) -> None:
    """b stands for scapy: it seals what a opens."""
    sa = peer(site, "b")
    for number, packet in enumerate(inner):
        data = seal_packet(sa, packet, first + number)
        site.a.arrive(MemoryDatagram(data, site.a.endpoint, site.b.endpoint))
    site.a.step()
    assert site.a.pulled() == inner
    assert site.a.drops == {}


def packets(version: int, back: bool = False) -> list[bytes]:
    """Several sizes: every padding there is, and one full frame."""
    source, destination = reversed(HOSTS[version]) if back else HOSTS[version]
    return [udp_of_size(source, destination, size) for size in (*range(48, 65), 1400)]


@pytest.mark.parametrize("encapsulation", Encapsulation, ids=lambda member: member.name)
@pytest.mark.parametrize("version", [4, 6], ids=["inner4", "inner6"])
@pytest.mark.parametrize("esn", ESN, ids=["noesn", "esn"])
@pytest.mark.parametrize("suite", ALL_SUITES)
def test_each_opens_what_the_other_sealed(suite, esn, version, encapsulation):
    with pair(suite + esn, encapsulation=encapsulation) as site:
        ours_opens_there(site, packets(version), 1)
        theirs_opens_here(site, packets(version, back=True), 1)


@pytest.mark.parametrize("encapsulation", Encapsulation, ids=lambda member: member.name)
@pytest.mark.parametrize("provider", [Provider.OPENSSL, Provider.AUTO], ids=lambda member: member.name)
def test_outer_ipv6_and_either_provider(provider, encapsulation):
    with pair("aes256gcm16-esn", encapsulation=encapsulation, outer=6, provider=provider) as site:
        ours_opens_there(site, packets(6), 1)
        theirs_opens_here(site, packets(4, back=True), 1)


@pytest.mark.parametrize("suite", ["aes128gcm16", "chacha20poly1305", "aes128-sha256", "aes256-sha1"])
def test_extended_sequence_numbers_go_on_beyond_32_bits(suite):
    """The high half is never sent, and must be right on both sides (RFC 4303 §2.2.1)."""
    last = 2**32 - 4
    with pair(f"{suite}-esn", sequence=last) as site:
        ours_opens_there(site, packets(4), last + 1)
        theirs_opens_here(site, packets(4, back=True), last + 1)


@pytest.mark.parametrize("suite", ["aes128gcm16-esn", "aes128-sha256-esn"])
def test_the_high_half_of_the_sequence_number_is_authenticated(suite):
    """The control for the test above."""
    with pair(suite, sequence=2**32) as site:
        site.a.push(packets(4)[0])
        site.a.step()
        (datagram,) = site.a.sent()
        with pytest.raises(IPSecIntegrityError):
            open_datagram(peer(site, "a"), datagram.data, site.a.encapsulation, 1)


@settings(max_examples=40, deadline=None)
@given(
    suite=st.sampled_from([keyword + esn for keyword in ALL_SUITES for esn in ESN]),
    sizes=st.lists(st.integers(48, 2000), min_size=1, max_size=8),
    version=st.sampled_from([4, 6]),
    encapsulation=st.sampled_from(list(Encapsulation)),
    sequence=st.integers(0, 2**31),
)
def test_any_suite_with_any_sizes(suite, sizes, version, encapsulation, sequence):
    there, back = HOSTS[version], HOSTS[version][::-1]
    with pair(suite, encapsulation=encapsulation, sequence=sequence) as site:
        ours_opens_there(site, [udp_of_size(*there, size) for size in sizes], sequence + 1)
        theirs_opens_here(site, [udp_of_size(*back, size) for size in sizes], sequence + 1)


def test_a_flipped_bit_is_seen_by_both():
    with pair() as site:
        site.a.push(packets(4)[0])
        site.a.step()
        (datagram,) = site.a.sent()
        bad = datagram.data[:-1] + bytes([datagram.data[-1] ^ 1])
        with pytest.raises(IPSecIntegrityError):
            open_datagram(peer(site, "a"), bad, site.a.encapsulation, 1)
        sealed = seal_packet(peer(site, "b"), packets(4, back=True)[0], 1)
        site.a.arrive(MemoryDatagram(sealed[:-1] + bytes([sealed[-1] ^ 1]), site.a.endpoint, site.b.endpoint))
        site.a.step()
        assert site.a.pulled() == []
        assert site.a.drops == {"icv": 1}
