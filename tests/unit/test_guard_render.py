"""The guard's text: what is dropped and what is let through, from selectors alone. What the kernel makes of it: tests/netns."""

from __future__ import annotations

import pytest

from ipsec_dp.host.guard import CLOSING_RANGES, GuardRule, narrow, plan, render_change, render_closing, separate, table_name, widen
from ipsec_dp.host.guard import render as render_plan
from ipsec_dp.host.nft import Count
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import OPAQUE_PORTS, Range, SelectorPair

R = AddressRange.of
LOCAL, REMOTE, ALL, ALL6 = R("10.1.0.0/24"), R("10.2.0.0/24"), R("0.0.0.0/0"), R("::/0")
TCP = Range(6, 6)
IPSEC0 = (7, "ipsec0")


def guarded(local, remote, *, bypass=False, **bounds):
    return GuardRule(SelectorPair(local, remote, **bounds), bypass)


A_TO_B = guarded(LOCAL, REMOTE)


def render(gateway, selectors, tunnels, counts=None):
    return render_plan(gateway, plan(selectors, tunnels), counts)


def elements(text: str, name: str) -> list[str]:
    """What a set holds."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(f"set {name} ")]
    return line.split("elements = { ")[1].split(" }")[0].split(", ") if "elements" in line else []


def chain(text: str, name: str) -> list[str]:
    """The rules of one chain."""
    body = text.split(f"chain {name} {{\n")[1].split("}\n", maxsplit=1)[0]
    return [line.strip() for line in body.splitlines() if line.strip()]


def head(direction: str, version: int = 4) -> list[str]:
    """What comes before every selector, in each of the four chains."""
    interface = "oif" if direction == "out" else "iif"
    own = [f'{interface} "lo" accept', f"{interface} . {interface}name @tunnels accept", f"jump exempt_{direction}"]
    return [*own, f"jump further_{direction}{version}"]


HEAD = len(head("out"))


def test_replaces_the_table_in_one_transaction():
    assert render("a", [], []).startswith("add table inet ipsec_dp_a\ndelete table inet ipsec_dp_a\ntable inet ipsec_dp_a {\n")


def test_drops_both_directions_of_a_pair():
    text = render("a", [A_TO_B], [IPSEC0])
    assert elements(text, "pairs4") == ["10.1.0.0-10.1.0.255 . 10.2.0.0-10.2.0.255"]
    assert chain(text, "out4") == [
        *head("out"),
        "ip saddr . ip daddr @pairs4 counter name cleartext_out4 drop",
    ]
    assert chain(text, "in4") == [
        *head("in"),
        "ip daddr . ip saddr @pairs4 counter name cleartext_in4 drop",
    ]
    assert (elements(text, "pairs6"), elements(text, "remote4")) == ([], [])


def test_pairs_in_a_set_never_overlap():
    """Neighbours and doubles of one local network are merged; of local networks that overlap one is in the set, the others are
    rules."""
    wide = guarded(R("10.0.0.0/8"), R("10.2.0.0/16"))
    text = render("a", [A_TO_B, guarded(LOCAL, R("10.2.1.0/24")), A_TO_B, wide], [])
    assert elements(text, "pairs4") == ["10.1.0.0-10.1.0.255 . 10.2.0.0-10.2.1.255"]
    assert "ip saddr 10.0.0.0-10.255.255.255 ip daddr 10.2.0.0-10.2.255.255 counter name cleartext_out4 drop" in chain(text, "out4")
    assert elements(text, "remote4") == ["10.2.0.0-10.2.255.255"]


def test_a_change_touches_the_difference_only():
    now = plan([A_TO_B, guarded(LOCAL, R("10.3.0.0/24"))], [IPSEC0])
    then = plan([A_TO_B, guarded(LOCAL, R("10.5.0.0/24"))], [IPSEC0, (8, "ipsec1")])
    assert "--\n".join(render_change("a", now, then)) == (
        "delete element inet ipsec_dp_a pairs4 { 10.1.0.0-10.1.0.255 . 10.3.0.0-10.3.0.255 }\n"
        "add element inet ipsec_dp_a pairs4 { 10.1.0.0-10.1.0.255 . 10.5.0.0-10.5.0.255 }\n"
        "--\n"
        'add element inet ipsec_dp_a tunnels { 8 . "ipsec1" }\n'
        "flush chain inet ipsec_dp_a further_out4\n"
        + "".join(
            f"flush chain inet ipsec_dp_a {name}\n"
            f"add rule inet ipsec_dp_a {name} ip {address} 10.2.0.0/24 jump {name.removesuffix('bound')}4\n"
            f"add rule inet ipsec_dp_a {name} ip {address} 10.5.0.0/24 jump {name.removesuffix('bound')}4\n"
            for name, address in (("outbound", "daddr"), ("inbound", "saddr"))
        )
    )


def test_what_chains_rely_on_is_in_the_sets_before_them_and_leaves_after_them():
    """The kernel asks new chains a moment before it shows what a set of ranges got in the same transaction."""
    now = plan([A_TO_B, guarded(LOCAL, R("10.4.0.0/24"), protocol=TCP)], [])
    then = plan([A_TO_B, guarded(LOCAL, R("10.6.0.0/24"), protocol=TCP)], [])
    before, chains, after = render_change("a", now, then)
    assert "10.4.0.0-10.4.0.255, 10.6.0.0-10.6.0.255" in before
    assert "chain" not in before + after
    assert "element" not in chains
    assert "10.6.0.0-10.6.0.255" in after
    assert "10.4.0.0" not in after


def test_nothing_but_a_question_is_asked_where_nothing_differs():
    """It fails when the table is not there."""
    assert render_change("a", plan([A_TO_B], []), plan([A_TO_B], [])) == ["flush chain inet ipsec_dp_a further_out4\n"]


def test_every_packet_of_the_host_is_compared_with_the_protected_remote_prefixes_and_no_more():
    text = render(
        "a", [A_TO_B, guarded(LOCAL, R("10.4.0.0-10.4.0.2"), protocol=TCP), guarded(R("fd00:1::/64"), R("fd00:2::/64"))], []
    )
    gates = [
        "ip {} 10.2.0.0/24 jump {}4",
        "ip {} 10.4.0.0/31 jump {}4",
        "ip {} 10.4.0.2/32 jump {}4",
        "ip6 {} fd00:2::/64 jump {}6",
    ]
    assert chain(text, "outbound")[1:] == [gate.format("daddr", "out") for gate in gates]
    assert chain(text, "inbound")[1:] == [gate.format("saddr", "in") for gate in gates]


def test_many_remote_prefixes_are_looked_up_in_sets():
    many = [guarded(LOCAL, R(f"10.{number}.0.0/24")) for number in range(10, 20)]
    assert chain(render("a", many, []), "outbound")[1:] == ["ip daddr @remote4 jump out4", "ip saddr . ip daddr @pairs4 jump out4"]


def test_while_a_configuration_changes_what_either_holds_back_is_held_back():
    """A new bypass does not open yet, a former one does not keep a new selector open, and one of both lets through."""
    host, other = (guarded(R(f"10.1.0.{n}"), R(f"10.2.0.{n}"), bypass=True) for n in (9, 10))
    now, then = plan([host, A_TO_B], []), plan([other, A_TO_B, guarded(LOCAL, R("10.5.0.0/24"))], [])
    rules = chain(render_plan("a", widen(now, then)), "further_out4")
    assert [rule.split()[-1] for rule in rules] == ["return", "drop", "drop"]
    assert "10.5.0.0-10.5.0.255" in rules[1]
    assert "@pairs4" in rules[2]
    assert chain(render_plan("a", widen(now, then)), "out4")[HEAD].endswith("accept")


def test_ports_change_sides_with_the_direction_and_later_fragments_go_with_the_protected():
    text = render("a", [guarded(LOCAL, REMOTE, protocol=TCP, local_ports=Range(1024, 2000), remote_ports=Range(443, 443))], [])
    addresses = "ip saddr 10.1.0.0-10.1.0.255 ip daddr 10.2.0.0-10.2.0.255"
    assert chain(text, "out4")[HEAD:-1] == [
        f"{addresses} meta l4proto 6 th sport 1024-2000 th dport 443-443 counter name cleartext_out4 drop",
        f"{addresses} ip frag-off & 0x1fff != 0 counter name cleartext_out4 drop",
    ]
    assert "meta l4proto 6 th dport 1024-2000 th sport 443-443 counter" in chain(text, "in4")[HEAD]


def test_opaque_ports_are_later_fragments_and_nothing_else():
    text = render("a", [guarded(LOCAL, REMOTE, protocol=TCP, local_ports=OPAQUE_PORTS, remote_ports=OPAQUE_PORTS)], [])
    addresses = "ip saddr 10.1.0.0-10.1.0.255 ip daddr 10.2.0.0-10.2.0.255"
    assert chain(text, "out4")[HEAD:-1] == [f"{addresses} ip frag-off & 0x1fff != 0 counter name cleartext_out4 drop"]


def test_icmp_type_and_codes_are_compared_and_later_fragments_go_with_them():
    def icmp(codes):
        return guarded(LOCAL, REMOTE, protocol=Range(1, 1), local_ports=codes, remote_ports=codes)

    text = render("a", [icmp(Range(0x0301, 0x0303))], [])
    assert "meta l4proto 1 icmp type 3 icmp code 1-3 counter name cleartext_out4 drop" in chain(text, "out4")[HEAD]
    assert "ip frag-off & 0x1fff != 0 counter name cleartext_out4 drop" in chain(text, "out4")[HEAD + 1]
    every_code = render("a", [icmp(Range(0x0800, 0x08FF))], [])
    assert "meta l4proto 1 icmp type 8 counter" in chain(every_code, "in4")[HEAD]


def test_policy_order_is_kept_and_bypass_lets_through():
    host = guarded(R("10.1.0.9"), R("10.2.0.9"), bypass=True)
    text = render("a", [host, A_TO_B], [])
    assert [rule.split()[-1] for rule in chain(text, "out4")[HEAD:]] == ["accept", "drop"]
    first = render("a", [A_TO_B, host], [])
    assert [rule.split()[-1] for rule in chain(first, "out4")[HEAD:]] == ["drop", "accept", "drop"]
    assert elements(first, "remote4") == ["10.2.0.0-10.2.0.255"]


def test_ipv6_uses_its_own_chains():
    text = render("a", [guarded(R("fd00:1::/64"), R("fd00:2::/64"), protocol=Range(17, 17), remote_ports=Range(53, 53))], [])
    assert chain(text, "out4")[HEAD:] == ["ip saddr . ip daddr @pairs4 counter name cleartext_out4 drop"]
    assert chain(text, "out6")[HEAD + 1].endswith("fd00:2::ffff:ffff:ffff:ffff exthdr frag exists counter name cleartext_out6 drop")


def test_counters_go_on():
    text = render("a", [], [], {"cleartext_in6": Count(7, 700)})
    assert "counter cleartext_in6 { packets 7 bytes 700 }" in text
    assert "counter cleartext_in4 { packets 0 bytes 0 }" in text


@pytest.mark.parametrize(
    ("gateway", "table"), [("site-a", "ipsec_dp_site-a"), ("a_b", "ipsec_dp_a_5fb"), ("a b;", "ipsec_dp_a_20b_3b")]
)
def test_table_name_takes_any_gateway_name_apart(gateway, table):
    assert table_name(gateway) == table


@pytest.mark.parametrize("gateway", ["", "x" * 201])
def test_table_name_has_bounds(gateway):
    with pytest.raises(ValueError, match="1 to 200"):
        table_name(gateway)


@pytest.mark.parametrize("name", ["", "two words", 'quote"', "a/b", "x" * 16, "star*"])
def test_interface_name_cannot_break_out(name):
    with pytest.raises(ValueError, match="not the name of an interface"):
        render("a", [A_TO_B], [(7, name)])


# Selectors of one pair, the networks inside, and the remote addresses that are left to protect.
SEPARATED = [
    ("10.1.0.0/24", "10.2.0.0/24", "10.2.0.0/24", ["10.2.0.0/24"]),  # no overlap: inside does not matter
    ("10.1.0.0/24", "0.0.0.0/0", "", ["0.0.0.0-10.0.255.255", "10.1.1.0-255.255.255.255"]),
    ("0.0.0.0/0", "0.0.0.0/0", "10.1.0.0/24", ["0.0.0.0-10.0.255.255", "10.1.1.0-255.255.255.255"]),
    ("0.0.0.0/0", "0.0.0.0/0", "", ["0.0.0.0/0"]),
    ("10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/16", ["10.1.0.0-10.255.255.255"]),
    ("0.0.0.0/0", "10.1.0.0/24", "10.9.0.0/24", ["10.1.0.0/24"]),
]


@pytest.mark.parametrize(("local", "remote", "inside", "left"), SEPARATED)
def test_separate(local, remote, inside, left):
    separated = separate([guarded(R(local), R(remote), protocol=TCP)], [R(inside)] if inside else [])
    assert separated == [guarded(R(local), R(part), protocol=TCP) for part in left]


def test_narrow_cuts_only_selectors_for_everything():
    named, everything, everything6 = guarded(LOCAL, REMOTE), guarded(ALL, ALL), guarded(ALL6, ALL6)
    routed = [R("10.3.0.0/24"), R("10.3.1.0/24"), R("fd00:2::/64")]
    assert narrow([named, everything, everything6], routed) == [
        named,
        guarded(ALL, R("10.3.0.0/23")),
        guarded(ALL6, R("fd00:2::/64")),
    ]
    assert narrow([everything], []) == []


# ---- the small table that closes first ------------------------------------------------------------------------------------------


def test_a_large_guard_is_closed_first_by_merged_ranges_and_what_bypasses_passes():
    near, far = AddressRange.of("10.1.0.0/24"), [AddressRange.of(f"10.2.{number}.0/25") for number in range(250)]
    passed = GuardRule(SelectorPair(near, AddressRange.of("10.2.1.7")), bypass=True)
    wanted = plan([passed, *(GuardRule(SelectorPair(near, remote)) for remote in far)], [(7, "ipsec0")])
    text = render_closing("gw", wanted)
    assert text.startswith("add table inet ipsec_dp-closing_gw\ndelete table inet ipsec_dp-closing_gw\n")
    assert "ip saddr 10.1.0.0-10.1.0.255 ip daddr 10.2.1.7 accept" in text
    assert "ip saddr @local4 ip daddr @remote4 counter name cleartext_out4 drop" in text
    assert "ip daddr @local4 ip saddr @remote4 counter name cleartext_in4 drop" in text
    assert "oif . oifname @tunnels accept" in text
    assert "@remote6" not in text


def test_very_many_ranges_become_fewer_that_hold_them_all():
    near = AddressRange.of("10.1.0.0/24")
    far = [AddressRange.of(f"{20 + (number >> 15)}.{number >> 7 & 255}.{2 * number & 255}.0/24") for number in range(3000)]
    text = render_closing("gw", plan([GuardRule(SelectorPair(near, remote)) for remote in far], [(7, "ipsec0")]))
    line = next(line for line in text.splitlines() if "set remote4" in line)
    ranges = [AddressRange.of(each.strip()) for each in line.partition("elements = {")[2].partition("}")[0].split(",")]
    assert len(ranges) <= CLOSING_RANGES
    assert all(any(each.covers(one) for each in ranges) for one in far)
