"""What strangers and broken peers put on the outer link: dropped, counted by reason, never a crash, never a change of state.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

Everything here is put on the link next to gwB, made from packets that gwA really sent.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.packets import ipv4, ipv6, udp
from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns import harness
from tests.netns.traffic import echoes, ping, tcp_both_ways, to_gateway_b, udp_payload, until

A, B = netns.GW_A_OUTER, netns.GW_B_OUTER
KNOWN_SPI = (0x1001).to_bytes(4, "big")
UNKNOWN_SPI = (0x7777).to_bytes(4, "big")


def in_udp(esp):
    return udp(A[0], B[0], esp, ports=(4500, 4500))


def in_ipv4(esp):
    return ipv4(A[0], B[0], esp, protocol=50)


def in_ipv6(esp):
    return ipv6(A[1], B[1], esp, protocol=50)


TRANSPORTS = {"udp": (in_udp, 0), "esp": (in_ipv4, 0), "esp6": (in_ipv6, 1)}


@pytest.fixture(scope="module", params=TRANSPORTS)
def tunnel(request, shared_sites, tmp_path_factory):
    """Both gateways, what puts ESP into their kind of datagram, and ESP packets of gwA's that gwB has seen."""
    wrap, version = TRANSPORTS[request.param]
    directory = tmp_path_factory.mktemp(request.param)
    pair = ManualPair(encapsulation=request.param.removesuffix("6"), outer=(A[version], B[version]))
    with GatewayPair(shared_sites, directory, pair) as gateways:
        path = directory / "wan"
        harness.crossed(shared_sites.gw_a, "wan", path, lambda: ping(shared_sites.host_a, netns.HOST_B[0]))
        sent = [packet for _, packet in capture.read(path) if capture.kind(packet) in ("esp", "esp-udp")]
        strip = {"udp": udp_payload, "esp": lambda packet: packet[20:], "esp6": lambda packet: packet[40:]}[request.param]
        esp = [strip(packet) for packet in sent]
        yield gateways, wrap, [packet for packet in esp if packet[:4] == KNOWN_SPI]


def state(gateway):
    """Everything in the status that no bad packet may change."""
    status = gateway.status()
    children = [tunnel.pop("children") for tunnel in status["tunnels"]]
    for tunnel in status["tunnels"]:
        del tunnel["totals"]["drops"]
    fixed = ("spi_in", "spi_out", "packets_in", "octets_in", "packets_out", "octets_out", "sequence_in", "sequence_out")
    return (
        [{key: child[key] for key in fixed} for each in children for child in each],
        status["tunnels"],
        status["traffic"]["packets_in"],
    )


def drops(gateway):
    return gateway.status()["drops"]


def settled(gateways):
    """The state of gwB, once each has counted what the other one has: a packet is counted a moment after it was passed on."""

    def counts(gateway):
        (child,) = gateway.status()["tunnels"][0]["children"]
        return child["packets_in"], child["packets_out"]

    until(lambda: counts(gateways.a) == counts(gateways.b)[::-1], "all of what passed is counted")
    return state(gateways.b)


def next_sequence(packet):
    """The same packet with a sequence number that is still to come: its ICV no longer fits."""
    return packet[:4] + (int.from_bytes(packet[4:8], "big") + 1000).to_bytes(4, "big") + packet[8:]


def flipped(packet, at):
    return packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1 :]


CASES = {
    "runt": ("runt", lambda esp: esp[:7]),
    "header alone": ("esp_length", lambda esp: next_sequence(esp)[:8]),
    "cut in the IV": ("esp_length", lambda esp: next_sequence(esp)[:14]),
    "no room for the trailer": ("esp_length", lambda esp: next_sequence(esp)[:33]),
    "cut by four octets": ("icv", lambda esp: next_sequence(esp)[:-4]),
    "octets behind the ICV": ("icv", lambda esp: next_sequence(esp) + bytes(4)),
    "wrong ICV": ("icv", lambda esp: flipped(next_sequence(esp), len(esp) - 1)),
    "wrong ciphertext": ("icv", lambda esp: flipped(next_sequence(esp), 20)),
    "another sequence number": ("icv", next_sequence),
    "far ahead": ("icv", lambda esp: esp[:4] + b"\xff\xff\xff\xf0" + esp[8:]),
    "replayed": ("replay", lambda esp: esp),
    "unknown SPI": ("unknown_spi", lambda esp: UNKNOWN_SPI + esp[4:]),
}


@pytest.mark.parametrize("case", CASES)
def test_is_dropped_counted_and_changes_nothing(shared_sites, tunnel, case):
    gateways, wrap, esp = tunnel
    reason, spoil = CASES[case]
    before, counted = settled(gateways), drops(gateways.b)
    to_gateway_b(shared_sites, *[wrap(spoil(esp[0]))] * 5)
    after = until(lambda: (now := drops(gateways.b))[reason] == counted[reason] + 5 and now, f"5 drops as {reason}")
    assert {name for name in after if after[name] != counted[name]} == {reason}
    assert state(gateways.b) == before
    assert echoes(shared_sites.host_a, netns.HOST_B[0]) == 3, "and nothing of them is on its way in the next test"


def test_a_thousand_datagrams_of_chance(shared_sites, tunnel):
    """Any octets, any length, half of them under the SPI of a real SA: all are dropped, and the tunnel goes on."""
    gateways, wrap, _ = tunnel
    chance = random.Random(50)
    before, counted = settled(gateways), sum(drops(gateways.b).values())
    junk = [(KNOWN_SPI if i % 2 else b"\x01") + chance.randbytes(chance.randrange(1400)) for i in range(1000)]
    to_gateway_b(shared_sites, *map(wrap, junk))
    until(lambda: sum(drops(gateways.b).values()) == counted + 1000, "a thousand drops")
    assert state(gateways.b) == before
    for address in netns.HOST_B:
        tcp_both_ways(shared_sites.host_a, shared_sites.host_b, address, 1 << 16)
    assert "Traceback" not in gateways.b.text()


@contextmanager
def held_back(sites):
    """Nothing of the tunnel arrives at gwB while the block runs; captures and what is put on the link later are not held back."""
    rules = "type filter hook prerouting priority -300; iifname wan meta l4proto { udp, 50 } drop"
    sites.gw_b.run("nft", "-f", "-", stdin=f"table inet held {{\nchain c {{\n{rules}\n}}\n}}\n")
    try:
        yield
    finally:
        sites.gw_b.run("nft", "delete", "table", "inet", "held")


def from_elsewhere(wrap, esp):
    if wrap is in_udp:
        return udp("192.0.2.99", B[0], esp, ports=(4500, 4500))
    if wrap is in_ipv4:
        return ipv4("192.0.2.99", B[0], esp, protocol=50)
    return ipv6("2001:db8:2::99", B[1], esp, protocol=50)


def test_authentic_packets_from_another_address_are_taken_and_answered_to_the_configured_one(shared_sites, tunnel, tmp_path):
    """Whoever repeats a packet first from elsewhere cannot draw the tunnel there (RFC 7296 §2.23); it is told, and counted once."""
    gateways, wrap, _ = tunnel
    with held_back(shared_sites):
        harness.crossed(shared_sites.gw_a, "wan", tmp_path / "sent", lambda: harness.pings(shared_sites.host_a, netns.HOST_B[0]))
    sent = [packet for _, packet in capture.read(tmp_path / "sent") if capture.kind(packet) in ("esp", "esp-udp")]
    esp = sent[0][-len(tunnel[2][0]) :]
    child = gateways.b.status()["tunnels"][0]["children"][0]

    def inject():
        to_gateway_b(shared_sites, *[from_elsewhere(wrap, esp)] * 2)
        until(lambda: gateways.b.status()["tunnels"][0]["children"][0]["packets_out"] > child["packets_out"], "an echo reply")

    replays = drops(gateways.b)["replay"]
    harness.crossed(shared_sites.gw_b, "wan", tmp_path / "answered", inject)
    answers = [packet for _, packet in capture.read(tmp_path / "answered") if addressed(packet)[0] in B]
    assert {addressed(packet)[1] for packet in answers if capture.kind(packet) in ("esp", "esp-udp")} <= set(A)
    assert gateways.b.status()["tunnels"][0]["children"][0]["packets_in"] == child["packets_in"] + 1
    until(lambda: drops(gateways.b)["replay"] == replays + 1, "the second one, counted once")
    until(lambda: "authentic packets come from another address" in gateways.b.text(), "the log line")
    assert echoes(shared_sites.host_b, netns.HOST_A[0]) == 3


def addressed(packet):
    """Source and destination of an IP packet."""
    ends = (packet[12:16], packet[16:20]) if packet[0] >> 4 == 4 else (packet[8:24], packet[24:40])
    return tuple(str(ip_address(end)) for end in ends)


def test_ike_and_keepalives_in_between_are_no_errors(shared_sites, tunnel):
    gateways, wrap, _ = tunnel
    if wrap is not in_udp:
        return
    before, counted = gateways.b.status()["traffic"], drops(gateways.b)
    to_gateway_b(shared_sites, *[in_udp(bytes(4) + b"IKE comes later")] * 3, in_udp(b"\xff"))
    until(lambda: gateways.b.status()["traffic"]["ike_in"] == before["ike_in"] + 3, "three IKE messages")
    assert drops(gateways.b) == counted
