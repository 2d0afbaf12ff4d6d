"""Floods of strangers against a live gateway: what it does not let pass, and who is none the worse for it.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

Floods leave from gwA's namespace for gwB; what gwB answers to addresses that nobody has ends there. Short forms of the bars that
`test_floods_measured` has in full.
"""

from __future__ import annotations

import contextlib
import time

import pytest

from ipsec_dp.rig.process import GatewayPair, IkePair
from tests.netns.flood import NAT_PORT, flood
from tests.netns.flood_watch import FLOOD_RATE, NOWHERE, OUTER, OWN_RATE, SHORT_S, lives_through_forged, watching
from tests.netns.traffic import until
from tests.netns.used import resident

pytestmark = pytest.mark.alone("a flood and the gateway under it want processors, and take them from others")

UP_MOST_S = 10.0
MEMORY_MOST = 16 << 20  # octets
BEFORE_S = 2.0  # of a flood, until a peer calls


@pytest.fixture
def pair(sites_opened_again, tmp_path):
    """Two gateways, not started, of which gwB asks gwA each second whether it is there."""
    sites_opened_again.gw_a.ip(*NOWHERE)
    with contextlib.ExitStack() as stack:

        def pair(version=4, **settings):
            settings.setdefault("ike", (watching("1h"), watching("1s")))
            made = GatewayPair(sites_opened_again, tmp_path, IkePair(outer=OUTER[version], **settings))
            for gateway in (made.a, made.b):
                stack.callback(gateway.kill)
            return made

        yield pair
    sites_opened_again.gw_a.ip(*(line.replace(" add ", " del ") for line in NOWHERE))


@pytest.mark.parametrize(("version", "encapsulation", "port"), [(4, "udp", NAT_PORT), (6, "esp", 500)])
def test_an_idle_tunnel_lives_through_forged_messages(sites_opened_again, pair, version, encapsulation, port):
    """With the right SPIs, addresses, ports and a message ID that is expected: all but the ICV."""
    gateways = pair(version, encapsulation=encapsulation)
    gateways.start()
    print(f"\n{encapsulation} IPv{version}:", lives_through_forged(sites_opened_again, gateways, version, port, SHORT_S))
    assert gateways.b.status()["drops"]["ike_icv"] > 1000


def calls_in(sites, gateways, version, rate, kind, source):
    """gwA calls gwB in the middle of a flood at gwB: after how many seconds it is up, and by how many octets gwB has grown."""
    gateways.a.start()
    gateways.a.wait_up()
    gateways.b.start()
    gateways.b.wait_up()
    before = resident(gateways.b)
    with flood(sites.gw_a, OUTER[version][1], rate, BEFORE_S + UP_MOST_S + 5, kind, source):
        until(lambda: sum(gateways.b.status()["drops"].values()) > 0 or source, "more than gwB answers", 10)
        began = time.monotonic()
        gateways.a.ask("initiate", name="a-to-b")
        until(lambda: gateways.a.status()["tunnels"][0]["state"] == "up", "gwA is up", UP_MOST_S)
        return time.monotonic() - began, resident(gateways.b) - before


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("rate", "kind", "own"), [(FLOOD_RATE, "half-open", False), (OWN_RATE, "half-open", True)])
def test_a_peer_comes_up_in_a_flood_of_requests(sites_opened_again, pair, version, rate, kind, own):
    """From random addresses, and from the peer's own: whoever receives there brings the data plane's cookie back."""
    gateways = pair(version, start=("on-demand", "respond"))
    seconds, octets = calls_in(sites_opened_again, gateways, version, rate, kind, OUTER[version][0] if own else None)
    print(
        f"\nIPv{version}, {'its own address' if own else 'random addresses'}: up after {seconds:.2f} s, +{octets / 2**20:.1f} MiB"
    )
    assert octets <= MEMORY_MOST
