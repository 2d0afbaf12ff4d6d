"""Rules of others in front of ours, on the real kernel: told while they take what is to enter a tunnel, and only then.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns import harness
from tests.netns.traffic import udp_both_ways, until

TABLE = 100  # has a default route by wan
REFUSING = 101  # has a blackhole for site B
ELSEWHERE = 102  # has one network that no tunnel has
EMPTY = 103
A, B = netns.HOST_A, netns.HOST_B


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with netns.Lab() as lab:
        sites = netns.two_sites(lab)
        for via in netns.GW_B_OUTER:
            sites.gw_a.ip(f"route add default via {via} dev wan table {TABLE}")
        for prefix, elsewhere in zip(netns.SITE_B_NETS, ("10.77.0.0/16", "fd00:77::/64"), strict=True):
            sites.gw_a.ip(f"route add blackhole {prefix} table {REFUSING}", f"route add {elsewhere} dev wan table {ELSEWHERE}")
        with GatewayPair(sites, tmp_path_factory.mktemp("rules"), ManualPair()) as up:
            yield sites, up


def rule(sites, verb, words, version=4):
    sites.gw_a.run("ip", f"-{version}", "rule", verb, *words.split())


def told(gateway):
    return [text for text in gateway.status()["warnings"] if text.startswith("rule ")]


TAKES = [
    (4, "priority 100 from all lookup 100", "leaves by wan, where the guard drops it (table 100)"),
    (4, "priority 100 from 10.1.0.0/24 lookup 100", "leaves by wan"),
    (4, "priority 100 from all to 10.2.0.128/25 lookup 100", "to 10.2.0.129 leaves by wan"),
    (4, "priority 100 from all iif lan lookup 100", "10.1.0.2 to 10.2.0.1 leaves by wan"),
    (4, "priority 100 from all iif lo lookup 100", "10.1.0.1 to 10.2.0.1 leaves by wan"),
    (4, "priority 100 from all ipproto tcp dport 22 lookup 100", "leaves by wan"),
    (4, "priority 100 from all uidrange 1000-1001 lookup 100", "leaves by wan"),
    (4, "priority 100 from all lookup main", "leaves by wan, where the guard drops it (table main)"),
    (4, "priority 100 not from all fwmark 0x1 lookup 100", "leaves by wan"),
    (4, "priority 100 from all goto 32766", "leaves by wan"),
    (4, "priority 100 from all to 10.2.0.0/24 unreachable", "is refused"),
    (4, "priority 100 from all lookup 101", "is refused"),
    (6, "priority 100 from all lookup 100", "leaves by wan, where the guard drops it (table 100)"),
    (6, "priority 100 from fd00:1::/64 to fd00:2::/64 lookup 100", "leaves by wan"),
    (6, "priority 100 from all iif lan lookup 100", "fd00:1::2 to fd00:2::1 leaves by wan"),
    (6, "priority 100 from all lookup 101", "is refused"),
]


@pytest.mark.parametrize(("version", "words", "what"), TAKES, ids=[f"IPv{row[0]} {row[1][13:]}" for row in TAKES])
def test_a_rule_that_takes_what_is_to_enter_a_tunnel_is_told_while_it_lasts(pair, version, words, what):
    sites, up = pair
    rule(sites, "add", words, version)
    (text,) = until(lambda: told(up.a), "the warning")
    assert text.startswith(f"rule 100 ({words.removeprefix('priority 100 ')}) of this host comes before the gateway's")
    assert what in text
    until(lambda: f"WARNING {text}" in up.a.text(), "it is in the log")
    for command in text.partition("to move it behind: ")[2].split("; "):  # as a person would
        sites.gw_a.run(*command.split())
    until(lambda: not told(up.a), "the end of the warning")
    rule(sites, "del", words.replace("priority 100", "priority 21000"), version)


CANNOT = [
    "priority 100 from 10.9.0.0/24 lookup 100",
    "priority 101 from all fwmark 0x1 lookup 100",
    "priority 102 from all iif other lookup 100",
    "priority 103 from all lookup main suppress_prefixlength 0",
    "priority 104 from all to 10.77.0.0/16 lookup 100",
    "priority 105 from all lookup 102",
    "priority 106 from all lookup 103",
    "priority 107 from all lookup local",
    "priority 30000 from all lookup 100",
]


def test_rules_that_cannot_are_not_and_they_do_not_hide_one_that_does(pair):
    sites, up = pair
    for words in CANNOT:
        rule(sites, "add", words)
    rule(sites, "add", "priority 150 from all iif lan lookup 100")
    (text,) = until(lambda: told(up.a), "the one that takes")
    assert "rule 150 (from all iif lan lookup 100)" in text
    rule(sites, "del", "priority 150")
    until(lambda: not told(up.a), "the end of the warning")
    udp_both_ways(sites.host_a, sites.host_b, B[0])
    for words in CANNOT:
        rule(sites, "del", words)


def test_a_route_that_comes_into_the_table_of_a_rule_counts_from_then_on(pair):
    sites, up = pair
    rule(sites, "add", f"priority 100 from all lookup {EMPTY}")
    rule(sites, "add", "priority 101 from all iif lan lookup 100")
    until(lambda: told(up.a), "the control")
    assert [text[:9] for text in told(up.a)] == ["rule 101 "]
    sites.gw_a.ip(f"route add {B[0]}/32 via {netns.GW_B_OUTER[0]} dev wan table {EMPTY}")
    until(lambda: [text[:9] for text in told(up.a)] == ["rule 101 ", "rule 100 "] or len(told(up.a)) == 2, "both")
    sites.gw_a.ip(f"route del {B[0]}/32 table {EMPTY}")
    until(lambda: len(told(up.a)) == 1, "the first alone")
    rule(sites, "del", "priority 100")
    rule(sites, "del", "priority 101")
    until(lambda: not told(up.a), "the end of both")


# ---- what `policy explain` says ---------------------------------------------------------------------------------------------


def explained(gateway, source, destination, **more):
    return gateway.ask("explain", source=source, destination=destination, protocol="tcp", sport="40000", dport="22", **more)


@pytest.mark.parametrize("version", [4, 6])
def test_explain_follows_a_forwarded_packet_by_the_interface_that_it_comes_in_by(pair, version):
    sites, up = pair
    number = version == 6
    said = explained(up.a, A[number], B[number])
    assert (said["verdict"], said["route"]["interface"]) == ("protect", "ipsec0")
    rule(sites, "add", "priority 100 from all iif lan ipproto tcp dport 22 lookup 100", version)
    said = explained(up.a, A[number], B[number])
    assert (said["verdict"], said["route"]["interface"], said["route"]["table"]) == ("drop", "wan", 100)
    assert said["route"]["rule"] == "100: from all iif lan ipproto tcp dport 22 lookup 100"
    (step,) = [step for step in said["steps"] if step["what"] == "route"]
    assert "rule 100 (from all iif lan ipproto tcp dport 22 lookup 100) decides that" in step["why"]
    assert not harness.pings(sites.host_a, "192.0.2.77"), "a control that nothing answers"
    assert explained(up.a, netns.GW_A_INNER[number], B[number])["verdict"] == "protect", "what is the gateway's own has no iif"
    said = up.a.ask("explain", source=A[number], destination=B[number], protocol="tcp", sport="40000", dport="23")
    assert said["verdict"] == "protect", "another port"
    rule(sites, "del", "priority 100", version)


def test_explain_names_what_refuses(pair):
    sites, up = pair
    rule(sites, "add", "priority 100 from all to 10.2.0.0/24 prohibit")
    said = explained(up.a, A[0], B[0])
    assert (said["verdict"], said["route"]["interface"]) == ("drop", None)
    assert "rule 100 (from all to 10.2.0.0/24 prohibit) decides that" in str(said["steps"])
    rule(sites, "del", "priority 100")
    assert explained(up.a, A[0], B[0])["verdict"] == "protect"


def test_explain_names_a_strict_reverse_path_filter(pair):
    sites, up = pair
    sites.gw_a.sysctl(("net/ipv4/conf/lan/rp_filter", "1"))
    said = explained(up.a, A[0], B[0])
    assert said["verdict"] == "protect", "its source is reached by lan: it passes"
    said = explained(up.a, "10.1.0.2", B[0], iif="wan")
    assert said["verdict"] == "protect", "wan is not strict"
    sites.gw_a.sysctl(("net/ipv4/conf/wan/rp_filter", "1"))
    said = explained(up.a, "10.1.0.2", B[0], iif="wan")
    assert (said["verdict"], said["route"]["interface"]) == ("drop", None)
    assert "reverse path filter" in str(said["steps"])
    sites.gw_a.sysctl(("net/ipv4/conf/wan/rp_filter", "0"), ("net/ipv4/conf/lan/rp_filter", "0"))
