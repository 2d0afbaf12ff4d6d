"""The policy database on a host: what bypasses, what is protected, what is discarded, in the order of the policies.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

hostB has several addresses, each with its own rules. What bypasses must never be seen on the TUN interface of gwA, and on the
outer link in clear; what is protected the other way round; what is discarded on neither.
"""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, GatewayProcess, ManualPair
from tests.netns import harness
from tests.netns.traffic import TIMEOUT_S, udp_both_ways, until

A, B = netns.HOST_A[0], netns.HOST_B[0]
NO_ECHO, ONLY_UDP, DISCARDED, PASSED, NEXT_TO_PASSED = (f"10.2.0.{last}" for last in (3, 4, 5, 17, 20))

# As gwA has them; gwB has the mirror image.
POLICIES = (
    ("protect", {"protocol": "udp", "remote_ports": "7010"}),
    ("discard", {"protocol": "udp", "remote_ports": "7020-7029"}),
    ("bypass", {"protocol": "udp", "remote_ports": "7000-7050"}),
    ("bypass", {"local": "10.1.0.0/24", "remote": "10.2.0.16-10.2.0.18"}),
    ("discard", {"local": "10.1.0.0/24", "remote": "10.2.0.5-10.2.0.6"}),
    ("discard", {"local": "10.1.0.0/24", "remote": NO_ECHO, "protocol": "icmp", "icmp_type": "8"}),
    ("protect", {"local": "10.1.0.0/24", "remote": ONLY_UDP, "protocol": "udp"}),
    ("discard", {"local": "10.1.0.0/24", "remote": ONLY_UDP}),
)
MIRRORED = {"local": "remote", "remote": "local", "remote_ports": "local_ports"}


def policies(side):
    text = ""
    for action, keys in POLICIES:
        tunnel = f'tunnel = "{"a-to-b" if side == "a" else "b-to-a"}"\n' if action == "protect" else ""
        names = keys if side == "a" else {MIRRORED.get(key, key): value for key, value in keys.items()}
        text += f'\n[[policy]]\naction = "{action}"\n{tunnel}' + "".join(f'{key} = "{value}"\n' for key, value in names.items())
    return text


@pytest.fixture(scope="module")
def sites(shared_sites):
    shared_sites.host_b.ip(*(f"address add {each}/24 dev eth0" for each in (NO_ECHO, ONLY_UDP, DISCARDED, PASSED, NEXT_TO_PASSED)))
    return shared_sites


@pytest.fixture(scope="module")
def up(sites, tmp_path_factory):
    pair = GatewayPair(sites, tmp_path_factory.mktemp("policy"), ManualPair())
    for side, gateway in (("a", pair.a), ("b", pair.b)):
        gateway.config.write_text(gateway.config.read_text() + policies(side))
    with pair:
        yield pair


def seen(sites, tmp_path, traffic):
    """Kinds of packets on gwA's TUN interface and on its outer link while `traffic` ran."""
    outer = []
    inner = harness.crossed(
        sites.gw_a, "ipsec0", tmp_path / "tun", lambda: outer.append(harness.crossed(sites.gw_a, "wan", tmp_path / "wan", traffic))
    )
    return SimpleNamespace(tun=set(inner.packets), wan=set(outer[0].packets))


def drops(gateway, reason):
    return gateway.status()["drops"][reason]


@pytest.mark.parametrize(("near", "far", "address"), [(0, 0, netns.HOST_B[0]), (1, 1, netns.HOST_B[1])], ids=["ipv4", "ipv6"])
def test_what_bypasses_never_enters_the_tunnel_and_what_does_not_is_sealed(sites, up, tmp_path, near, far, address):
    bypassed = seen(sites, tmp_path, lambda: udp_both_ways(sites.host_a, sites.host_b, address, port=7000))
    assert (bypassed.tun, bypassed.wan) == (set(), {"udp"})
    sealed = seen(sites, tmp_path, lambda: udp_both_ways(sites.host_a, sites.host_b, address, port=7051))
    assert (sealed.tun, sealed.wan) == ({"udp"}, {"esp-udp"}), "the positive control: the captures see what there is"


def test_an_earlier_policy_takes_its_part_out_of_a_bypass(sites, up, tmp_path):
    protected = seen(sites, tmp_path, lambda: udp_both_ways(sites.host_a, sites.host_b, B, port=7010))
    assert (protected.tun, protected.wan) == ({"udp"}, {"esp-udp"})
    before = drops(up.a, "policy_discard")
    discarded = seen(sites, tmp_path, lambda: harness.send_udp(sites.host_a, (B, 7025)))
    assert discarded.wan == set()
    until(lambda: drops(up.a, "policy_discard") == before + 1, "the discarded datagram is counted")


def test_a_range_bypasses_and_its_neighbour_does_not(sites, up, tmp_path):
    assert harness.reaches(sites.host_a, PASSED)
    passed = seen(sites, tmp_path, lambda: harness.pings(sites.host_a, PASSED))
    assert (passed.tun, passed.wan) == (set(), {"icmp"})
    sealed = seen(sites, tmp_path, lambda: harness.pings(sites.host_a, NEXT_TO_PASSED))
    assert (sealed.tun, sealed.wan) == ({"icmp"}, {"esp-udp"})


def test_the_other_side_may_begin_what_bypasses(sites, up, tmp_path):
    """The guards accept it both ways."""

    def back():
        assert sites.host_b.run("ping", "-n", "-c", "1", "-W", "10", "-I", PASSED, A, check=False).returncode == 0

    found = seen(sites, tmp_path, back)
    assert (found.tun, found.wan) == (set(), {"icmp"})


def test_a_discarded_range_goes_nowhere_and_is_counted(sites, up, tmp_path):
    before = drops(up.a, "policy_discard")
    found = seen(sites, tmp_path, lambda: harness.pings(sites.host_a, DISCARDED))
    assert found.wan == set()
    until(lambda: drops(up.a, "policy_discard") == before + 1, "it is counted")


def test_one_icmp_type_is_discarded_and_the_rest_is_protected(sites, up, tmp_path):
    found = seen(sites, tmp_path, lambda: harness.pings(sites.host_a, NO_ECHO))
    assert found.wan == set()
    assert refused(sites, NO_ECHO), "port unreachable is ICMP of another type"


def refused(sites, address):
    """Whether hostA hears that no one listens there: an ICMP error about its datagram came back."""

    def ask():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(TIMEOUT_S)
            asking.connect((address, 9999))
            asking.send(b"x")
            try:
                asking.recv(1)
            except ConnectionRefusedError:
                return True
            except TimeoutError:
                return False
        return False

    return sites.host_a.call(ask)


def test_an_error_about_protected_traffic_comes_through_the_tunnel(sites, up, tmp_path):
    """Between these two all but UDP is discarded, ICMP too, but for the errors that are about UDP (RFC 4301 §6)."""
    assert not harness.pings(sites.host_a, ONLY_UDP)
    heard = []
    found = seen(sites, tmp_path, lambda: heard.append(refused(sites, ONLY_UDP)))
    assert heard == [True]
    assert (found.tun, found.wan) == ({"udp", "icmp"}, {"esp-udp"})


def test_forwarded_fragments_of_what_bypasses_by_port_do_not_leave_in_clear(sites, up, tmp_path):
    """No rule of the kernel's can match ports that are not there: the first fragment is dropped, the others are sealed."""
    before = drops(up.a, "policy_bypass")
    sealed = up.a.status()["traffic"]["packets_out"]

    def fragments():
        harness.send_udp(sites.host_a, (B, 7000), bytes(4000))
        until(lambda: drops(up.a, "policy_bypass") == before + 1, "the first fragment is counted")
        until(lambda: up.a.status()["traffic"]["packets_out"] >= sealed + 2, "the others are sealed")

    found = seen(sites, tmp_path, fragments)
    assert found.wan == {"esp-udp"}


@pytest.mark.parametrize(
    ("packet", "inbound", "verdict", "interface"),
    [
        ((A, B, "udp", "1", "7000"), False, "bypass", None),
        ((A, B, "udp", "1", "7010"), False, "protect", "ipsec0"),
        ((A, B, "udp", "1", "7020"), False, "discard", "ipsec0"),
        ((A, NO_ECHO, "icmp", "8", "0"), False, "discard", "ipsec0"),
        ((A, NO_ECHO, "icmp", "3", "3"), False, "protect", "ipsec0"),
        ((A, "10.9.0.9", "udp", "1", "2"), False, "clear", "wan"),
        ((B, A, "udp", "7010", "1"), True, "protect", None),
        ((B, A, "udp", "7000", "1"), True, "bypass", None),
        ((DISCARDED, A, "tcp", "1", "2"), True, "discard", None),
    ],
)
def test_the_running_gateway_explains_what_the_other_tests_saw(up, packet, inbound, verdict, interface):
    names = ("source", "destination", "protocol", "sport", "dport")
    said = up.a.ask("explain", **dict(zip(names, packet, strict=True)), inbound=inbound)
    assert (said["verdict"], (said["route"] or {}).get("interface")) == (verdict, interface)
    if verdict == "protect":
        assert said["sa"]["spi_in" if inbound else "spi_out"].startswith("0x")


def test_bypass_goes_on_when_the_gateway_is_killed_and_nothing_is_left_when_it_stops(lab, tmp_path):
    sites = netns.two_sites(lab)
    before = sites.gw_a.call(harness.picture)
    pair = GatewayPair(sites, tmp_path, ManualPair())
    pair.a.config.write_text(pair.a.config.read_text() + policies("a"))
    with_bypass: GatewayProcess = pair.a

    def clear():
        udp_both_ways(sites.host_a, sites.host_b, B, port=7000)

    for _ in range(2):  # the second start adopts what the killed one left
        with_bypass.start()
        with_bypass.wait_up()
        clear()
        with_bypass.kill()
        clear()
        found = harness.crossed(sites.gw_a, "wan", tmp_path / "x", lambda: harness.pings(sites.host_a, B))
        assert found.packets == {}, "what is protected stays closed"
    with_bypass.start()
    with_bypass.wait_up()
    rules = sites.gw_a.run("ip", "rule").stdout
    assert rules.count("goto 20258") == 3, "a /31 and a /32 beside the ports"
    assert with_bypass.terminate() == 0
    assert harness.difference(before, sites.gw_a.call(harness.picture)) == []
