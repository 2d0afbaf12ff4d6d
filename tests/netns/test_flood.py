"""The sender of floods itself: what it promises to send arrives, from where it says, with checksums that hold."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.rig import netns
from tests.netns import harness
from tests.netns.flood import NAT_PORT, NON_ESP_MARKER, flood

ENDS = {4: netns.GW_B_OUTER[0], 6: netns.GW_B_OUTER[1]}
NEAR = {4: netns.GW_A_OUTER[0], 6: netns.GW_A_OUTER[1]}
SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>
SPIS = bytes(range(1, 17))


def received(namespace, version, port, send):
    """The datagrams that arrive at a socket of a namespace while a flood goes there, with their senders."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6

    def opened():
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
        made.bind((ENDS[version], port))
        made.settimeout(0.5)
        return made

    with namespace.call(opened) as sink:
        harness.reaches(namespace, NEAR[version])  # neighbours know each other, or the first ones get lost
        sent = send()
        found = []
        while True:
            try:
                found.append(sink.recvfrom(4096))
            except TimeoutError:
                return sent, found


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kind", ["init", "half-open", "cookie"])
def test_requests_come_from_everywhere_and_are_well_formed(shared_sites, version, kind):
    def send():
        with flood(shared_sites.gw_a, ENDS[version], 2000, 0.5, kind) as running:
            return running.wait(20)

    sent, found = received(shared_sites.gw_b, version, 500, send)
    assert 200 < sent <= 1000
    assert len(found) == sent
    senders = {ip_address(sender[0].partition("%")[0]) for _, sender in found}
    spis = {parse_message(message).header.spi_i for message, _ in found}
    assert len(senders) > 0.99 * sent
    assert len(spis) == sent


@pytest.mark.parametrize("version", [4, 6])
def test_forged_messages_have_the_spis_and_the_source_that_were_asked_for(shared_sites, version):
    def send():
        there = ENDS[version], 1000, 0.2, "forged", NEAR[version]
        with flood(shared_sites.gw_a, *there, port=NAT_PORT, source_port=NAT_PORT, spis=SPIS, message_id=7, flags=0) as running:
            return running.wait(20)

    sent, found = received(shared_sites.gw_b, version, NAT_PORT, send)
    assert len(found) == sent > 50
    assert {(sender[0], sender[1]) for _, sender in found} == {(NEAR[version], NAT_PORT)}
    messages = [parse_message(message.removeprefix(NON_ESP_MARKER)) for message, _ in found]
    assert {(each.header.spi_i + each.header.spi_r, each.header.message_id) for each in messages} == {(SPIS, 7)}
