"""An SA by itself against scapy's implementation: what either seals, the other opens."""

from __future__ import annotations

import pytest

from ipsec_dp.dataplane import Encapsulation
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.gateway import keymat
from ipsec_dp.rig.packets import udp_of_size
from ipsec_dp.rig.security_association import SecurityAssociation
from tests.interop.scapy_peer import ALL_SUITES, association, open_datagram, seal_packet

SPI = 0x1001
PACKETS = [udp_of_size("10.1.0.1", "10.2.0.1", size) for size in (*range(48, 65), 1400)]
PACKETS += [udp_of_size("2001:db8:1::1", "2001:db8:2::1", size) for size in (60, 1400)]


@pytest.mark.parametrize("first", [1, 2**32 - 5], ids=["from 1", "over 2^32"])
@pytest.mark.parametrize("suite", [*ALL_SUITES, *(f"{suite}-esn" for suite in ALL_SUITES)])
def test_each_opens_what_the_other_sealed(suite, first):
    parsed, key = parse_suite(suite), bytes(keymat(parse_suite(suite), "k"))
    first = first if parsed.esn else min(first, 2**32 - len(PACKETS))
    peer = association(parsed, SPI, key, "192.0.2.1", "192.0.2.2", Encapsulation.ESP)
    with SecurityAssociation(parsed, key, spi=SPI, sequence=first - 1) as sa:
        sa.highest = first - 1
        sealed = sa.seal_burst(PACKETS)
        opened = [open_datagram(peer, packet, Encapsulation.ESP, number) for number, packet in enumerate(sealed.packets(), first)]
        assert opened == PACKETS
        back = sa.open_burst([seal_packet(peer, packet, number) for number, packet in enumerate(PACKETS, first)])
        assert back.packets() == PACKETS
        assert back.sequences.tolist() == list(range(first, first + len(PACKETS)))
