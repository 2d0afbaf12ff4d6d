"""Zones: what a file becomes, what is wrong with one, and who decides about a packet. The kernel's answers: tests/netns."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ipsec_dp.config import examine
from ipsec_dp.config.zone_policy import Packet, ZonePolicy
from ipsec_dp.host import zones as kernel
from ipsec_dp.host.nft import Count
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import ANY_PORT, PORT_OPAQUE, Range, SelectorPair

TUNNEL = """
[[tunnel]]
name = "to-b"
remote = "192.0.2.2"
  [tunnel.auth]
  psk_file = "to-b.psk"
"""


def zone(name: str, *interfaces: str) -> str:
    return f'[[zone]]\nname = "{name}"\ninterfaces = {list(interfaces)}\n'


def rule(origin: str, target: str, *lines: str) -> str:
    return "\n".join((f'[[zone_rule]]\nfrom = "{origin}"\nto = "{target}"', *lines, ""))


VPN, LAN = zone("vpn", "ipsec0"), zone("lan", "eth1", "wlan*")


@pytest.fixture
def read(tmp_path):
    """The configuration that a text makes (with one tunnel on ipsec0), and its findings as lines without the place in the file."""
    (tmp_path / "to-b.psk").write_text("correct horse battery staple\n")
    (tmp_path / "to-b.psk").chmod(0o600)

    def read(*parts: str):
        file = tmp_path / "a.toml"
        file.write_text(TUNNEL + "".join(parts))
        config, findings = examine(file)
        return config, [str(each).partition(": ")[2] for each in findings]

    return read


# ---- what check says -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ((zone("vpn"),), 'zone "vpn": interfaces: is empty'),
        (('[[zone]]\nname = "vpn"\n',), 'zone "vpn": interfaces: is missing'),
        ((zone("gateway", "eth0"),), 'zone "gateway": name: "gateway" is the gateway itself'),
        ((VPN, zone("vpn", "eth0")), 'zone "vpn": name: 2 zones have this name'),
        ((VPN, zone("x", "ipsec0")), 'zone "x": interfaces: ipsec0 is also in zone "vpn"'),
        ((VPN, zone("x", "ips*")), 'zone "x": interfaces: ips* is also in zone "vpn" as ipsec0'),
        ((LAN, zone("x", "wlan0")), 'zone "x": interfaces: wlan0 is also in zone "lan" as wlan*'),
        ((zone("x", "eth1", "eth1"),), 'zone "x": interfaces: eth1 is twice here'),
        ((zone("x", "*"),), 'zone "x": interfaces: "" cannot be an interface'),
        ((zone("x", "lo"),), 'zone "x": interfaces: "lo" cannot be an interface'),
        ((VPN, rule("lann", "vpn")), 'zone_rule #1: from: no zone is named "lann"'),
        ((VPN, LAN, rule("lan", "vpm")), 'zone_rule #1: to: no zone is named "vpm"; did you mean "vpn"?'),
        ((VPN, rule("gateway", "gateway")), "zone_rule #1: to: what the gateway sends itself is not judged"),
        ((VPN, LAN, rule("lan", "vpn", "destination_ports = 80")), "zone_rule #1: destination_ports: protocol"),
        ((VPN, LAN, rule("lan", "vpn", 'source = "10.1.0.1/24"')), "zone_rule #1: source: "),
        (
            (VPN, LAN, rule("lan", "vpn", 'source = "10.1.0.0/24"'), rule("lan", "vpn", 'source = "10.1.0.4"')),
            "zone_rule #2: never reached: zone_rule #1 holds all of 10.1.0.4/32",
        ),
    ],
)
def test_a_wrong_one_is_refused_in_one_line(read, parts, line):
    config, lines = read(*parts)
    assert config is None
    assert [each for each in lines if each.startswith(line)], lines


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ((VPN, LAN), 'tunnel "to-b": interface: warning: ipsec0 is alone in zone "vpn", and no rule lets anything in or out'),
        ((VPN, LAN, rule("lan", "vpn", 'action = "deny"')), 'tunnel "to-b": interface: warning: ipsec0 is alone in zone "vpn"'),
        ((LAN,), 'tunnel "to-b": interface: warning: ipsec0 is in no zone'),
    ],
)
def test_a_tunnel_through_which_nothing_can_pass_is_warned_of(read, parts, line):
    config, lines = read(*parts)
    assert config is not None
    assert line in " ".join(lines)


def test_good_ones_are_good(read):
    config, lines = read(VPN, LAN, rule("lan", "vpn"), rule("vpn", "gateway", 'protocol = "icmp"'))
    assert lines == []
    assert [zone.interfaces for zone in config.zones] == [("ipsec0",), ("eth1", "wlan*")]


# ---- who decides ---------------------------------------------------------------------------------------------------------------

RULES = (
    rule("vpn", "lan", 'destination = "10.1.0.9"', 'protocol = "tcp"', 'destination_ports = "80-81"'),
    rule("vpn", "lan", 'source = "10.2.0.0/24"', 'action = "deny"'),
    rule("vpn", "lan", 'source = "10.2.0.0/16"', 'protocol = "udp"'),
    rule("lan", "gateway", 'protocol = "tcp"', "destination_ports = 23", 'action = "deny"'),
    rule("vpn", "gateway", 'protocol = "icmp"'),
)


def packet(protocol: int = 17, port: int | None = 53, *, source: str = "10.2.1.2", destination: str = "10.1.0.9") -> Packet:
    ports = (PORT_OPAQUE, PORT_OPAQUE) if port is None else (1024, port)
    return Packet(ip_address(source), ip_address(destination), protocol, *ports)


@pytest.mark.parametrize(
    ("what", "ways", "allowed", "number"),
    [
        (packet(6, 80), ("ipsec0", "eth1"), True, 1),
        (packet(6, 82), ("ipsec0", "eth1"), False, None),
        (packet(6, 80, destination="10.1.0.8"), ("ipsec0", "eth1"), False, None),
        (packet(), ("ipsec0", "wlan3"), True, 3),
        (packet(source="10.2.0.2"), ("ipsec0", "wlan3"), False, 2),
        (packet(6, 80, source="10.2.0.2"), ("ipsec0", "eth1"), True, 1),
        (packet(), ("eth1", "ipsec0"), False, None),
        (packet(), ("eth1", "wlan3"), True, None),
        (packet(), ("eth9", "ipsec0"), False, None),
        (packet(), ("ipsec0", "eth9"), False, None),
        (packet(), ("eth9", "eth8"), True, None),
        (packet(1, None), ("ipsec0", None), True, 5),
        (packet(6, 22), ("ipsec0", None), False, None),
        (packet(6, 22), ("eth1", None), True, None),
        (packet(6, 23), ("eth1", None), False, 4),
        (packet(), (None, "ipsec0"), False, None),
        (packet(), (None, "eth1"), True, None),
        (packet(), (None, "lo"), True, None),
        (packet(), ("eth9", None), True, None),
    ],
)
def test_the_first_rule_that_holds_decides_and_without_one_the_zones(read, what, ways, allowed, number):
    config, _ = read(VPN, LAN, *RULES)
    found = ZonePolicy(config).judge(what, *ways)
    assert (found.allowed, found.rule) == (allowed, number)
    assert found.why


def test_why_names_the_rule_and_the_zones(read):
    config, _ = read(VPN, LAN, *RULES)
    policy = ZonePolicy(config)
    assert policy.judge(packet(6, 80), "ipsec0", "eth1").why == 'zone_rule #1 allows it from "vpn" to "lan"'
    assert policy.judge(packet(), "eth1", "ipsec0").why == 'no zone_rule allows it from "lan" to "vpn"'
    assert policy.judge(packet(), "eth9", "ipsec0").why == 'interface eth9 is in no zone, and the other is in "vpn"'


def test_without_zones_everything_passes(read):
    config, _ = read()
    assert ZonePolicy(config).judge(packet(), "eth1", "ipsec0").allowed


# ---- the kernel's table --------------------------------------------------------------------------------------------------------

R = AddressRange.of
ZONES = (kernel.Zone("vpn", ("ipsec0",)), kernel.Zone("lan", ("eth1", "wlan*")))
TO_WEB = SelectorPair(R("10.2.0.0/24"), R("10.1.0.9"), Range(6, 6), ANY_PORT, Range(80, 81))
WEB = kernel.ZoneRule("vpn", "lan", (TO_WEB,), allow=True, log=True)
ANY = "ip saddr 10.2.0.0-10.2.0.255 ip daddr 10.1.0.9 meta l4proto 6 th dport 80-81"


def chain(text: str, name: str) -> list[str]:
    body = text.split(f"chain {name} {{\n")[1].split("}\n", maxsplit=1)[0] if f"chain {name} " in text else ""
    return [line.strip() for line in body.splitlines() if line.strip()]


def test_replaces_the_table_in_one_transaction():
    name = "ipsec_dp-zones_a"
    assert kernel.render("a", ZONES, [], ["ipsec0"]).startswith(
        f"add table inet {name}\ndelete table inet {name}\ntable inet {name} {{"
    )


def test_a_rule_is_counted_logged_by_its_number_and_the_pair_ends_closed():
    text = kernel.render("a", ZONES, [WEB], ["ipsec0"])
    assert chain(text, "pair/vpn/lan") == [
        f'{ANY} ct state new limit rate 10/second burst 20 packets log prefix "zone_rule #1" group {kernel.log_group("a")}',
        f"{ANY} counter name {kernel.counter_name(1, WEB)} accept",
        "goto denied",
    ]


def test_a_zone_passes_within_and_is_closed_to_all_that_no_rule_names():
    text = kernel.render("a", ZONES, [WEB], ["ipsec0"])
    assert chain(text, "from/lan") == ['oifname { "eth1", "wlan*" } accept', "goto denied"]
    assert chain(text, "forward")[-2:] == ['oifname { "ipsec0" } goto denied', 'oifname { "eth1", "wlan*" } goto denied']


def test_the_gateway_is_closed_to_tunnels_and_open_to_others():
    deny = kernel.ZoneRule("lan", "gateway", (SelectorPair(R("0.0.0.0/0"), R("0.0.0.0/0")),), allow=False)
    text = kernel.render("a", ZONES, [deny], ["ipsec0", "ipsec1"])
    assert chain(text, "input")[-1] == "iifname @tunnels goto denied"
    assert 'set tunnels { type ifname; elements = { "ipsec0" } }' in text  # ipsec1 is in no zone
    assert chain(text, "pair/lan/gateway")[-1] == "accept"
    assert chain(text, "pair/lan/gateway")[0] == "iifname != @tunnels jump exempt_in"  # its own ESP and IKE


def test_counters_go_on_and_those_of_another_rule_begin_anew():
    counts = {"denied": Count(3, 300), kernel.counter_name(1, WEB): Count(2, 200)}
    assert "counter denied { packets 3 bytes 300 }" in kernel.render("a", ZONES, [WEB], [], counts)
    assert "{ packets 2 bytes 200 }" in kernel.render("a", ZONES, [WEB], [], counts)
    other = kernel.ZoneRule("vpn", "lan", WEB.selectors, allow=False)
    assert "{ packets 2 bytes 200 }" not in kernel.render("a", ZONES, [other], [], counts)


def test_a_name_that_breaks_out_of_the_text_is_refused():
    with pytest.raises(ValueError, match="is not the name of an interface"):
        kernel.render("a", [kernel.Zone("x", ('" } drop',))], [], [])
