"""What a firewall on the way lets pass and what not: said early, by what shows it, until it is over.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

gwB's packet filter stands for the firewall: it drops before any socket sees the packet.
"""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, IkePair
from tests.netns.traffic import ping, until

if TYPE_CHECKING:
    from ipsec_dp.rig.netns import Namespace

HOST_B = netns.HOST_B[0]
TOLD_S = 40.0  # nobody waits so long: after how many seconds of traffic it is told, tests/unit/test_unanswered.py shows
ESP_IN_UDP = "udp dport 4500 @th,64,32 != 0"  # no non-ESP marker: IKE passes (RFC 3948 §2.2), and keepalives
FIREWALL = (
    "add table inet firewall; add chain inet firewall in {{ type filter hook {hook} priority -300; }}; "
    "add rule inet firewall in {rule} {verdict}"
)


@contextlib.contextmanager
def blocked(namespace: Namespace, rule: str, verdict: str = "drop"):
    hook = "prerouting" if verdict == "drop" else "input"  # there nothing can be refused before Linux 5.9
    namespace.run("nft", FIREWALL.format(hook=hook, rule=rule, verdict=verdict))
    try:
        yield
    finally:
        namespace.run("nft", "delete table inet firewall")


@pytest.fixture
def gateways(sites_opened_again, tmp_path):
    """Starts two of these settings."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(GatewayPair(sites_opened_again, tmp_path, IkePair(**settings)))


def tunnel(gateway):
    (only,) = gateway.status()["tunnels"]
    return only


def error(gateway, words):
    """The last error, once it has these words."""
    found = tunnel(gateway)["last_error"] or ""
    return found if words in found else None


@pytest.fixture
def pings(sites_opened_again):
    """From hostA to hostB, one a second."""
    process = sites_opened_again.host_a.spawn("ping", "-n", "-i", "1", HOST_B, stdout=subprocess.DEVNULL)
    yield
    process.kill()
    process.wait()


def test_ip_protocol_50_is_blocked_while_ike_passes(sites_opened_again, gateways, pings):
    sites = sites_opened_again
    with blocked(sites.gw_b, "meta l4proto esp"):
        both = gateways(encapsulation="esp")
        both.a.wait_negotiated()
        said = until(lambda: error(both.a, "nothing comes back"), "the silence is told", TOLD_S)
        assert 'IP protocol 50 (ESP) is blocked on the way, while IKE passes: let it pass, or try encapsulation = "udp"' in said
        assert tunnel(both.a)["state"] == "up", "nothing is done about it"
        assert f'tunnel "a-to-b": {said}' in both.a.status()["warnings"]
        until(lambda: both.a.text().count("nothing comes back") == 1, "one line of the log")
        assert tunnel(both.a)["encapsulation"] == "esp"
        assert tunnel(both.b)["last_error"] is None
    ping(sites.host_a, HOST_B)
    until(lambda: tunnel(both.a)["last_error"] is None, "it is over")
    assert both.a.status()["warnings"] == []


def test_udp_port_4500_is_blocked_while_500_passes(sites_opened_again, gateways):
    with blocked(sites_opened_again.gw_b, "udp dport 4500"):
        both = gateways(encapsulation="udp")
        said = until(lambda: error(both.a, "has not answered IKE_INTERMEDIATE"), "what is waited for")
        assert "most likely UDP port 4500 is blocked" in said
        assert tunnel(both.a)["state"] == "negotiating"
    both.a.wait_negotiated()
    up = tunnel(both.a)
    assert (up["last_error"], up["encapsulation"], up["encapsulation_why"]) == (None, "udp", "configured")
    assert up["attempts"] >= 1
    assert up["retransmissions"] >= 2
    assert (tunnel(both.b)["encapsulation"], tunnel(both.b)["encapsulation_why"]) == ("udp", "configured")


# ---- encapsulation = "auto" goes round what blocks UDP -----------------------------------------


def goes(gateway):
    up = tunnel(gateway)
    return up["state"], up["encapsulation"], up["encapsulation_why"]


def fallbacks(gateway):
    return [text for text in gateway.status()["warnings"] if "a fallback" in text]


def test_esp_in_udp_is_blocked_while_ike_passes(sites_opened_again, gateways, pings):
    sites = sites_opened_again
    with blocked(sites.gw_b, ESP_IN_UDP):
        both = gateways()
        both.a.wait_negotiated()
        assert (goes(both.a), goes(both.b)) == (("up", "udp", "auto"), ("up", "udp", "auto"))
        until(lambda: goes(both.a) == ("up", "esp", "fallback"), "IP protocol 50 is tried", TOLD_S)
        ping(sites.host_a, HOST_B)
        assert goes(both.b) == ("up", "esp", "peer")
        (said,) = fallbacks(both.a)
        assert "IKE passes, and nothing came back of ESP in UDP" in said
        assert "which costs throughput" in said
    both.a.ask("terminate", name="a-to-b")
    both.a.ask("initiate", name="a-to-b")
    until(lambda: goes(both.a)[0] == "up", "it is called again")
    assert goes(both.a) == ("up", "esp", "fallback"), "that is remembered"


def test_udp_port_4500_is_refused_while_500_passes(sites_opened_again, gateways):
    with blocked(sites_opened_again.gw_b, "udp dport 4500", "reject with icmp type admin-prohibited"):
        both = gateways()
        until(lambda: goes(both.a) == ("up", "esp", "fallback"), "IP protocol 50", 20.0)
        ping(sites_opened_again.host_a, HOST_B)
        assert "is refused (an ICMP message says so)" in fallbacks(both.a)[0]
