"""One test for both: gateways in memory, and daemons in network namespaces, by one parameter."""

from __future__ import annotations

import pytest

from ipsec_dp.rig import NetnsNetwork, Network
from ipsec_dp.rig.packets import udp
from tests.unit.rig_sites import site

HELLO, BACK = udp("10.1.0.5", "10.2.0.5", b"hello"), udp("10.2.0.5", "10.1.0.5", b"back")
BOTH = pytest.mark.parametrize("made", [Network, NetnsNetwork], ids=["memory", "netns"])


@BOTH
def test_a_packet_crosses_each_way_and_back(made):
    with made() as network:
        b, a = network.gateway(site("b")), network.gateway(site("a"))
        a.wait("up")
        a.inject(HELLO)
        b.wait("packet")
        b.inject(BACK)
        a.wait("packet")
        assert (b.received(), a.received()) == ([HELLO], [BACK])
        (sa,) = a.sas()
        assert (sa.packets_out, sa.packets_in, sa.suite) == (1, 1, "aes256gcm16")
        assert b.sas()[0].spi_in == sa.spi_out
        assert len(a.keylog().splitlines()) == 2
        assert len(a.capture()) > 5 * 40
