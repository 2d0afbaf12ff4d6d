"""The host's own packet filter: what of it may drop a packet, from listings as real programs made them."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ipsec_dp.host import HostError, filter_listing, nft
from ipsec_dp.host.filter_listing import host_filter, legacy_filter, legacy_objects
from ipsec_dp.host.filter_remedies import dropped, of_tunnels, outer, remedy
from ipsec_dp.host.filters import DroppingChain, Filter, FilterPacket

RECORDED = Path(__file__).parent / "recorded"
NFT, DOCKER = (json.loads((RECORDED / f"filter-{name}.json").read_text())["nftables"] for name in ("nft", "iptables-nft"))
LEGACY = legacy_objects("ip", (RECORDED / "filter-iptables-legacy.txt").read_text())

IKE, NATT = (FilterPacket("input", 4, protocol="udp", sport=port, dport=port) for port in (500, 4500))
ESP = FilterPacket("input", 4, protocol="esp")
INTO, OUT_OF = FilterPacket("forward", 4, oif="ipsec0"), FilterPacket("forward", 4, iif="ipsec0")


def hows(objects, packet):
    return [each.how for each in Filter(objects).dropping(packet)]


@pytest.mark.parametrize(
    ("packet", "how"),
    [
        (IKE, None),
        (NATT, None),
        (ESP, None),
        (replace(IKE, dport=501), "policy drop"),
        (replace(IKE, dport=4100), None),
        (replace(IKE, dport=501, iif="lo"), None),
        (replace(IKE, dport=501, iif="dmz"), "rule 8 of input: drop"),
        (replace(IKE, state="invalid"), "rule 1 of input: drop"),
        (FilterPacket("input", 4, protocol="tcp", dport=22, source="10.0.0.1"), "policy drop"),
        (FilterPacket("input", 4, protocol="icmp"), "policy drop"),
        (INTO, None),
        (OUT_OF, "policy drop"),
        (replace(OUT_OF, state="established"), None),
        (replace(OUT_OF, destination="10.1.0.5"), None),
        (replace(OUT_OF, destination="10.3.0.5"), "policy drop"),
        (FilterPacket("forward", 6, iif="ipsec0", destination="fd00::1"), "policy drop"),
        (FilterPacket("output", 4, protocol="esp", mark=0xE5), None),
        (FilterPacket("output", 4, protocol="udp"), None),
        (FilterPacket("output", 6, protocol="udp"), "rule 3 of output: reject"),
    ],
)
def test_of_nftables_what_certainly_accepts_ends_a_chain_and_else_rule_or_policy_drop(packet, how):
    assert hows(NFT, packet) == ([] if how is None else [how])


@pytest.mark.parametrize("objects", [DOCKER, LEGACY], ids=["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize(
    ("packet", "how"),
    [
        (IKE, None),
        (ESP, None),
        (NATT, "rule 4 of INPUT: "),
        (INTO, "policy drop"),
        (OUT_OF, "policy drop"),
        (FilterPacket("forward", 4, iif="docker0", oif="ipsec0"), None),
        (FilterPacket("forward", 6, iif="ipsec0"), None),
        (FilterPacket("output", 4, protocol="esp"), None),
    ],
)
def test_of_iptables_what_a_module_compares_is_not_known(objects, packet, how):
    found = hows(objects, packet)
    assert found == [] if how is None else len(found) == 1 and found[0].startswith(how)


def rule(*expressions, chain="forward", table="f"):
    return {"rule": {"family": "inet", "table": table, "chain": chain, "expr": list(expressions)}}


def base(policy="drop", table="f"):
    row = {"family": "inet", "table": table, "name": "forward", "type": "filter", "hook": "forward", "policy": policy}
    return {"chain": row}


UNKNOWN = {"match": {"op": "==", "left": {"rt": {"key": "classid"}}, "right": 1}}
ACCEPT, DROP = {"accept": None}, {"drop": None}


@pytest.mark.parametrize(
    ("objects", "drops"),
    [
        ([base()], True),
        ([base("accept")], False),
        ([base(), rule(ACCEPT)], False),
        ([base(), rule(UNKNOWN, ACCEPT)], True),
        ([base("accept"), rule(UNKNOWN, DROP)], False),
        ([base("accept"), rule({"counter": None}, {"log": None}, DROP)], True),
        ([base(), rule({"limit": {}}, ACCEPT)], True),
        ([base(), rule({"jump": {"target": "forward"}})], True),
        ([base(), rule({"jump": {"target": "gone"}}), rule(ACCEPT)], False),
        ([base("accept"), rule({"goto": {"target": "x"}}), rule(DROP), rule(DROP, chain="x")], True),
        ([base(), rule("a form that is not known")], True),
        ([base(table="ipsec_dp_gw"), base(table="ipsec_dp-zones_gw")], False),
        ([{"table": {"name": "f"}}, {"metainfo": {}}], False),
    ],
)
def test_only_what_is_certain_counts(objects, drops):
    assert bool(Filter(objects).dropping(INTO)) is drops


# ---- what helps


@pytest.mark.parametrize(
    ("chain", "commands"),
    [
        (("inet", "filter", "input"), ["nft insert rule inet filter input udp dport 500 accept"]),
        (("ip", "filter", "INPUT"), ["iptables -I INPUT -p udp --dport 500 -j ACCEPT"]),
        (("ip6", "filter", "INPUT"), ["ip6tables -I INPUT -p udp --dport 500 -j ACCEPT"]),
        (("ip", filter_listing.LEGACY_TABLE, "INPUT"), ["iptables-legacy -I INPUT -p udp --dport 500 -j ACCEPT"]),
        (("inet", "firewalld", "filter_INPUT"), ["firewall-cmd --add-port=500/udp"]),
    ],
)
def test_the_command_is_of_the_program_that_made_the_chain(chain, commands):
    family, table, name = chain
    ike = outer("input", (4,), ("ike",))
    assert [remedy(DroppingChain(family, table, name, "input", "policy drop"), each) for each in ike] == commands


def test_each_packet_that_has_to_pass_has_a_command_after_which_it_does():
    wanted = [*of_tunnels("ipsec0"), *outer("input"), *outer("output")]
    hooks = [("input", "input"), ("forward", "forward"), ("output", "output")]
    rows = [
        {"family": "inet", "table": "f", "name": name, "type": "filter", "hook": hook, "policy": "drop"} for name, hook in hooks
    ]
    closed = dropped(Filter([{"chain": row} for row in rows]), wanted)
    assert {str(chain): len(several) for chain, several in closed.items()} == {
        "inet f forward (policy drop)": 4,
        "inet f input (policy drop)": 6,
        "inet f output (policy drop)": 6,
    }
    assert {remedy(chain, each) for chain, several in closed.items() for each in several} == {
        "nft insert rule inet f forward oifname ipsec0 accept",
        "nft insert rule inet f forward iifname ipsec0 accept",
        *(f"nft insert rule inet f {hook} udp dport {port} accept" for hook in ("input", "output") for port in (500, 4500)),
        *(f"nft insert rule inet f {hook} meta l4proto esp accept" for hook in ("input", "output")),
    }


# ---- how it is listed


def test_both_filters_are_one(monkeypatch):
    async def ruleset():
        return list(NFT)

    monkeypatch.setattr(nft, "ruleset", ruleset)
    monkeypatch.setattr(filter_listing, "legacy_filter", lambda version: LEGACY if version == 4 else [])
    found = asyncio.run(host_filter())
    assert [each.table for each in found.dropping(OUT_OF)] == ["filter", filter_listing.LEGACY_TABLE]


@pytest.mark.parametrize("text", [None, "", "nat\n"], ids=["no such file", "no table", "another table"])
def test_iptables_is_not_asked_where_its_table_is_not_loaded(tmp_path, text):
    if text is not None:
        (tmp_path / "thread-self/net").mkdir(parents=True)
        (tmp_path / "thread-self/net/ip_tables_names").write_text(text)
    assert legacy_filter(4, tmp_path) == []


def test_tables_that_nobody_can_list_are_an_error(tmp_path, monkeypatch):
    (tmp_path / "thread-self/net").mkdir(parents=True)
    (tmp_path / "thread-self/net/ip_tables_names").write_text("filter\n")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(HostError, match="iptables-legacy is not installed"):
        legacy_filter(4, tmp_path)
