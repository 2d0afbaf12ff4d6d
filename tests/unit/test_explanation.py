"""The answer of `policy explain` as it is sent: whose ends are source and destination, and what was not given."""

from __future__ import annotations

import msgspec
import pytest

from ipsec_dp.gateway.explanation import Explanation, PacketText, SaText
from ipsec_dp.gateway.question import question_of

WORDS = ("10.1.0.5", "10.2.0.7", "udp", "1000", "53")


@pytest.mark.parametrize(("inbound", "direction"), [(False, "outbound"), (True, "inbound")])
def test_source_and_destination_are_the_packets_whichever_side_is_ours(inbound, direction):
    answer = Explanation(question_of(*WORDS, inbound=inbound)).answer
    assert answer.direction == direction
    assert answer.packet == PacketText(source="10.1.0.5", destination="10.2.0.7", protocol=17, sport=1000, dport=53)


def test_what_was_not_given_is_null():
    packet = Explanation(question_of("10.1.0.5", "10.2.0.7", None, None, None, inbound=False)).answer.packet
    assert (packet.protocol, packet.sport, packet.dport) == (None, None, None)


def test_steps_and_the_end_stand_in_the_order_in_which_they_were_found():
    made = Explanation(question_of(*WORDS, inbound=False))
    made.add("route", "ipsec0", "10.2.0.0/24 leads there")
    made.add("rule", "protect", "it holds the packet")
    answer = made.end("protect", "sealed").answer
    assert [(step.what, step.verdict) for step in answer.steps] == [("route", "ipsec0"), ("rule", "protect")]
    assert (answer.verdict, answer.text) == ("protect", "sealed")


def test_an_sa_has_the_spi_of_one_direction_only():
    assert msgspec.to_builtins(SaText(tunnel="to-b", spi_out="0x2001", selectors="…")) == {
        "tunnel": "to-b",
        "spi_out": "0x2001",
        "selectors": "…",
    }
