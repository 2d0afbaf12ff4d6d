"""What BYPASS policies become in the kernel's routing: an ordered list whose first match decides as the policies do."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.config.bypass import RULES_MAX, held_by, plan
from ipsec_dp.config.model import Policy
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import ANY_PORT, ANY_PROTOCOL, Range, SelectorPair

R = AddressRange.of


def policy(action, *selectors):
    return Policy(action=action, tunnel=None, selectors=selectors)


ICMP, TCP, UDP = Range(1, 1), Range(6, 6), Range(17, 17)
SERVICE = SelectorPair(R("10.1.0.0/24"), R("10.2.0.0/24"), UDP, ANY_PORT, Range(53, 53))
SITE = SelectorPair(R("10.1.0.0/24"), R("10.2.0.0/24"))


def test_a_range_is_one_rule_for_each_pair_of_prefixes():
    made = plan([policy("bypass", SelectorPair(R("10.1.0.1-10.1.0.4"), R("10.2.0.0/24")))])
    assert [str(match.source) for match in made.matches] == ["10.1.0.1/32", "10.1.0.2/31", "10.1.0.4/32"]
    assert all(match.past for match in made.matches)


def test_only_what_takes_something_out_of_a_later_bypass_is_a_rule():
    elsewhere = SelectorPair(R("10.1.0.0/24"), R("10.9.0.0/24"))
    made = plan([policy("discard", elsewhere), policy("protect", SERVICE), policy("bypass", SITE), policy("discard", SITE)])
    assert [(match.protocol, match.past) for match in made.matches] == [(17, False), (None, True)]


def test_without_bypass_there_are_no_rules():
    assert plan([policy("protect", SITE), policy("discard", SERVICE)]).matches == ()


def test_there_is_an_end_to_rules():
    selectors = [SelectorPair(R(str(ipaddress.IPv4Address(index))), R("10.2.0.0/24")) for index in range(RULES_MAX + 1)]
    (refusal,) = plan([policy("bypass", *selectors)]).refusals
    assert (refusal.policy, refusal.right) == (0, "write fewer, wider ones")


ADDRESSES = st.tuples(st.integers(0, 7), st.integers(0, 7)).map(
    lambda ends: AddressRange(ipaddress.IPv4Address(min(ends)), ipaddress.IPv4Address(max(ends)))
)
PORTS = st.one_of(st.just(ANY_PORT), st.tuples(st.integers(1, 3), st.integers(1, 3)).map(lambda ends: Range(*sorted(ends))))
SELECTORS = st.one_of(
    st.builds(SelectorPair, ADDRESSES, ADDRESSES, st.sampled_from([ANY_PROTOCOL, ICMP])),
    st.builds(SelectorPair, ADDRESSES, ADDRESSES, st.sampled_from([TCP, UDP]), PORTS, PORTS),
)
POLICIES = st.lists(st.builds(policy, st.sampled_from(["protect", "bypass", "discard"]), SELECTORS), max_size=8)


@given(POLICIES, st.integers(0, 7), st.integers(0, 7), st.sampled_from([1, 6, 17]), st.integers(1, 3), st.integers(1, 3))
def test_the_kernel_lets_bypass_exactly_what_the_policies_do(policies, local, remote, protocol, local_port, remote_port):
    ports = (local_port, remote_port)

    def holds(selector):
        return (
            int(selector.local.low) <= local <= int(selector.local.high)
            and int(selector.remote.low) <= remote <= int(selector.remote.high)
            and selector.protocol.low <= protocol <= selector.protocol.high
            and selector.local_ports.low <= local_port <= selector.local_ports.high
            and selector.remote_ports.low <= remote_port <= selector.remote_ports.high
        )

    made = plan(policies)
    first = next((each for each in policies if holds(each.selectors[0])), None)
    found = held_by(made.matches, ipaddress.IPv4Address(local), ipaddress.IPv4Address(remote), protocol, ports)
    assert made.refusals == ()
    assert (found is not None and found.past) == (first is not None and first.action == "bypass")
