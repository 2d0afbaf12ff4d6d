"""`policy explain`: the answers of a configuration alone, and that its rule is the one by which the data plane decides."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.cli import main
from ipsec_dp.config import load
from ipsec_dp.config.model import Config
from ipsec_dp.databases.spd import ACTIONS
from ipsec_dp.dataplane import Policy, PolicyRule
from ipsec_dp.dataplane.lookup import Flow, flow_array, lookup
from ipsec_dp.errors import BadValueError
from ipsec_dp.gateway.explain import GatewayView, HoldingChild, explain, holds
from ipsec_dp.gateway.host_steps import HostView
from ipsec_dp.gateway.question import question_of
from ipsec_dp.host.decision import Way
from ipsec_dp.host.filters import Filter
from ipsec_dp.host.routing_rules import RouteQuestion, RoutingRule
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.rules import Rule
from ipsec_dp.ipsec.selectors import ANY_PORT, ANY_PROTOCOL, PORT_OPAQUE, PROTOCOL_OPAQUE, Range, SelectorPair

TEXT = """
[[tunnel]]
name = "to-b"
remote = "192.0.2.2"
encapsulation = "udp"
  [[tunnel.proxy_id]]
  local = "10.1.0.0/24"
  remote = "10.2.0.0/24"
  [tunnel.manual_unsafe]
  suite = "aes128gcm16"
  spi_in = 0x1001
  spi_out = 0x2001
  key_in_file = "in.key"
  key_out_file = "out.key"
[[policy]]
action = "discard"
local = "10.1.0.0/24"
remote = "10.2.0.9"
protocol = "icmp"
icmp_type = 8
[[policy]]
action = "protect"
tunnel = "to-b"
local = "10.1.0.0/24"
remote = "10.2.0.0/24"
protocol = "tcp"
remote_ports = 22
[[policy]]
action = "bypass"
local = "10.1.0.0/24"
remote = "10.2.0.0/24"
protocol = "tcp"
"""


@pytest.fixture
def config(tmp_path) -> Config:
    for number, name in enumerate(("in", "out")):
        (tmp_path / f"{name}.key").write_text(f"{number}1" * 20)
        (tmp_path / f"{name}.key").chmod(0o600)
    (tmp_path / "a.toml").write_text('[gateway]\nname = "a"\n' + TEXT)
    return load(tmp_path / "a.toml")


def answer(config, *words, inbound=False, view=None):
    padded = [*words, *[None] * (5 - len(words))]
    return asyncio.run(explain(config, question_of(*padded, inbound=inbound), view))


ASKED = [
    # packet, inbound, outcome, the rule's name, the step that says why
    (("10.1.0.5", "10.2.0.7", "udp", "1", "2"), False, "protect", 'tunnel "to-b" proxy_id #1', "sa"),
    (("10.1.0.5", "10.2.0.9", "icmp", "8", "0"), False, "discard", "policy #1", "rule"),
    (("10.1.0.5", "10.2.0.9", "icmp", "0"), False, "protect", 'tunnel "to-b" proxy_id #1', "sa"),
    (("10.1.0.5", "10.2.0.9", "tcp", "4711", "443"), False, "bypass", "policy #3", "bypass"),
    (("10.1.0.5", "10.2.0.9", "tcp", "4711", "22"), False, "protect", "policy #2", "sa"),
    (("10.1.0.5", "10.3.0.9", "tcp", "4711", "22"), False, "clear", None, "rule"),
    (("10.9.0.5", "10.2.0.7", "udp", "1", "2"), False, "drop", None, "rule"),
    (("10.1.0.5", "10.2.0.7"), False, "protect", 'tunnel "to-b" proxy_id #1', "sa"),
    (("10.2.0.7", "10.1.0.5", "udp", "1", "2"), True, "protect", 'tunnel "to-b" proxy_id #1', "guard"),
    (("10.2.0.9", "10.1.0.5", "icmp", "8", "0"), True, "discard", "policy #1", "guard"),
    (("10.2.0.9", "10.1.0.5", "tcp", "443", "4711"), True, "bypass", "policy #3", "guard"),
    (("10.3.0.9", "10.1.0.5", "tcp", "22", "4711"), True, "accept", None, "guard"),
]


@pytest.mark.parametrize(("packet", "inbound", "outcome", "rule", "step"), ASKED)
def test_what_decides_about_a_packet(config, packet, inbound, outcome, rule, step):
    made = answer(config, *packet, inbound=inbound)
    assert (made.outcome, made.rule and made.rule.name) == (outcome, rule)
    assert made.steps[-1].what == step


def view(way="ipsec0", children=(), filtered=()):
    """Everything goes by one interface, or as a function says; the packet filter has these objects."""

    async def answered(asked):
        return way(asked) if callable(way) else Way(way)

    async def own():
        return {ip_address("10.1.0.1")}

    async def listed():
        return Filter(filtered)

    return GatewayView(HostView(answered, own, listed), lambda _tunnel, _question: list(children))


def test_a_running_gateway_names_the_sa(config):
    made = answer(
        config, "10.1.0.5", "10.2.0.7", "udp", view=view(children=[HoldingChild(0x1001, 0x2001, "10.1.0.0/24 <-> 10.2.0.0/24")])
    )
    assert (made.outcome, made.sa.spi_out) == ("protect", "0x00002001")
    back = answer(config, "10.2.0.7", "10.1.0.5", "udp", inbound=True, view=view(children=[HoldingChild(0x1001, None, "…")]))
    assert (back.outcome, back.sa.spi_in) == ("protect", "0x00001001")


def test_without_an_sa_it_is_dropped_and_says_so(config):
    made = answer(config, "10.1.0.5", "10.2.0.7", "udp", view=view())
    assert made.outcome == "drop"
    assert "no_sa" in made.text
    assert answer(config, "10.2.0.7", "10.1.0.5", "udp", inbound=True, view=view()).outcome == "drop"


@pytest.mark.parametrize("way", ["eth0", None])
def test_the_hosts_routing_may_lead_elsewhere_and_then_the_guard_drops_it(config, way):
    made = answer(config, "10.1.0.5", "10.2.0.7", "udp", view=view(way=way))
    assert (made.outcome, made.steps[-1].what) == ("drop", "guard")
    assert made.route.interface == way


# ---- the host's part

CHILD = HoldingChild(0x1001, 0x2001, "10.1.0.0/24 <-> 10.2.0.0/24")
RULE = RoutingRule(version=4, priority=100, iif="lan", target=100)


class Routing:
    """Keeps what it is asked; the LAN is behind `lan`, 10.1.0.1 is this host's own, and `found` is where the rest goes."""

    def __init__(self, found):
        self.found, self.asked = found, []

    def __call__(self, asked):
        if asked == RouteQuestion(asked.destination):
            return Way("lo" if asked.destination == ip_address("10.1.0.1") else "lan")
        self.asked.append(asked)
        return self.found


@pytest.mark.parametrize(
    ("source", "more", "iif"),
    [("10.1.0.5", {}, "lan"), ("10.1.0.1", {}, ""), ("10.1.0.5", {"iif": "dmz"}, "dmz")],
    ids=["of the LAN", "the host's own", "by an interface that is said"],
)
def test_the_kernel_is_asked_with_all_that_the_packet_has(config, source, more, iif):
    routing = Routing(Way("ipsec0", 1))
    question = question_of(source, "10.2.0.7", "udp", "1", "2", **more)
    made = asyncio.run(explain(config, question, view(routing, [CHILD])))
    assert made.route is not None
    assert (made.outcome, made.route.iif) == ("protect", iif or None)
    assert routing.asked == [RouteQuestion(question.remote, question.local, iif, protocol=17, sport=1, dport=2)]


def test_a_rule_of_the_hosts_that_leads_elsewhere_is_named(config):
    made = answer(config, "10.1.0.5", "10.2.0.7", "udp", "1", "2", view=view(Routing(Way("wan", 100, RULE))))
    assert (made.outcome, made.route.interface, made.route.table) == ("drop", "wan", 100)
    assert made.route.rule == "100: from all iif lan lookup 100"
    (told,) = [step.why for step in made.steps if step.what == "route"]
    assert told == (
        "the host's routing sends 10.2.0.7 by wan (table 100), which is no tunnel interface: "
        "rule 100 (from all iif lan lookup 100) decides that"
    )


def test_what_the_kernel_refuses_is_told_with_why(config):
    refused = Way(None, 0, None, 18, "the reverse path filter of lan refuses its source")
    made = answer(config, "10.1.0.5", "10.2.0.7", "udp", "1", "2", view=view(Routing(refused)))
    assert made.outcome == "drop"
    assert "the host's routing refuses it (the reverse path filter of lan refuses its source)" in str(made.steps)


def test_a_packet_from_a_peer_is_followed_to_where_the_host_sends_it(config):
    routing = Routing(Way("lan", 254))
    made = answer(config, "10.2.0.7", "10.1.0.5", "udp", "1", "2", inbound=True, view=view(routing, [CHILD]))
    assert [asked.iif for asked in routing.asked] == ["ipsec0"]
    assert made.steps[-1].why == "out of ipsec0 the host's routing sends it by lan"


CLOSED = [
    {"chain": {"family": "inet", "table": "f", "name": hook, "type": "filter", "hook": hook, "policy": "drop"}}
    for hook in ("input", "forward", "output")
]


@pytest.mark.parametrize(
    ("words", "inbound", "chains"),
    [
        (("10.1.0.5", "10.2.0.7"), False, ["forward", "output"]),
        (("10.1.0.1", "10.2.0.7"), False, ["output"]),
        (("10.2.0.7", "10.1.0.5"), True, ["forward", "input"]),
        (("10.2.0.7", "10.1.0.1"), True, ["input"]),
    ],
    ids=["forwarded", "own", "from a peer", "from a peer for this host"],
)
def test_chains_that_may_drop_the_packet_or_what_carries_it_are_named_with_what_helps(config, words, inbound, chains):
    for objects, named in ((CLOSED, chains), ((), [])):
        seen = view(Routing(Way("lan" if inbound else "ipsec0", 1)), [CHILD], objects)
        made = answer(config, *words, "udp", "1", "2", inbound=inbound, view=seen)
        assert made.outcome == "protect"
        told = [step.why for step in made.steps if step.what == "filter"]
        assert [why.split()[3] for why in told] == named
        assert all("nft insert rule inet f" in why for why in told)


@pytest.mark.parametrize(
    "words",
    [
        ("10.1.0.5", "fd00::1"),
        ("10.1.0", "10.2.0.1"),
        ("10.1.0.5", "10.2.0.1", "tpc"),
        ("10.1.0.5", "10.2.0.1", "gre", "1"),
        ("10.1.0.5", "10.2.0.1", "47", "1", "2"),
        ("10.1.0.5", "10.2.0.1", "tcp", "1-5", "2"),
        ("10.1.0.5", "10.2.0.1", "icmp", "256"),
    ],
)
def test_what_is_no_packet_is_refused(words):
    """One that comes from a peer comes by no interface that could be given."""
    with pytest.raises(BadValueError, match="out of a tunnel interface"):
        question_of("10.2.0.7", "10.1.0.5", None, None, None, inbound=True, iif="wan")
    with pytest.raises(BadValueError):
        question_of(*words, *[None] * (5 - len(words)))


def test_the_verb_answers_from_a_file(config, capsys):
    words = ["policy", "explain", "10.1.0.5", "10.2.0.9", "tcp", "4711", "443", "--file", str(config.path)]
    assert main(words) == 0
    assert "10.1.0.5 -> 10.2.0.9 (outbound): bypass: leaves in clear" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["schema"], made["verdict"], made["rule"]["name"]) == (1, "bypass", "policy #3")
    assert made["packet"] == {"source": "10.1.0.5", "destination": "10.2.0.9", "protocol": 6, "sport": 4711, "dport": 443}
    assert [step["what"] for step in made["steps"]] == ["rule", "bypass"]


ADDRESSES = st.tuples(st.integers(1, 6), st.integers(1, 6)).map(lambda e: AddressRange.of(f"10.0.0.{min(e)}-10.0.0.{max(e)}"))
ICMP, TCP, UDP = Range(1, 1), Range(6, 6), Range(17, 17)
PORTS = st.one_of(st.just(ANY_PORT), st.tuples(st.integers(1, 3), st.integers(1, 3)).map(lambda ends: Range(*sorted(ends))))
ICMP_CODES = st.integers(0, 2).map(lambda kind: Range(kind << 8, kind << 8 | 1))
SELECTORS = st.one_of(
    st.builds(SelectorPair, ADDRESSES, ADDRESSES, st.sampled_from([ANY_PROTOCOL, ICMP, UDP])),
    st.builds(SelectorPair, ADDRESSES, ADDRESSES, st.sampled_from([TCP, UDP]), PORTS, PORTS),
    st.builds(lambda local, remote, icmp: SelectorPair(local, remote, ICMP, icmp, icmp), ADDRESSES, ADDRESSES, ICMP_CODES),
)
RULES = st.lists(
    st.builds(Rule, SELECTORS, st.sampled_from(["protect", "bypass", "discard"]), st.just("ipsec0"), st.none()), max_size=8
)
SHOWN = st.one_of(
    st.tuples(st.sampled_from([6, 17]), st.sampled_from([1, 2, 3, PORT_OPAQUE])).map(lambda shown: (shown[0], shown[1], 2)),
    st.tuples(st.integers(0, 3), st.integers(0, 2)).map(lambda icmp: (1, icmp[0] << 8 | icmp[1], icmp[0] << 8 | icmp[1])),
    st.sampled_from([(17, PORT_OPAQUE, PORT_OPAQUE), (PROTOCOL_OPAQUE, PORT_OPAQUE, PORT_OPAQUE)]),
)


@given(RULES, st.integers(1, 6), st.integers(1, 6), SHOWN)
def test_the_rule_named_is_the_one_by_which_the_data_plane_decides(rules, local, remote, shown):
    """Ranges, ICMP types, fragments (OPAQUE) and bypass in the mix."""
    ends = [AddressRange.of(f"10.0.0.{last}").low for last in (local, remote)]
    question = question_of(str(ends[0]), str(ends[1]), None, None, None)
    question = type(question)(ends[0], ends[1], *shown)
    mine = next((index for index, rule in enumerate(rules) if holds(rule.selector, question)), -1)
    policy = Policy([PolicyRule(rule.selector, ACTIONS[rule.action], 0) for rule in rules])
    flows = flow_array([Flow(ends[0], ends[1], *shown)])
    assert [mine] == lookup(policy, 0, flows).tolist() == lookup(policy, 0, flows, linear=True).tolist()
