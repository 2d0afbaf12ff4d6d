"""The configuration: what tunnels, policies and routes do to each other; what of it cannot be carried out, or is never reached."""

from __future__ import annotations

import re

import pytest

from ipsec_dp.config import load, model, tables
from ipsec_dp.host import routes

from .config_files import AUTH, MANUAL, PROXY, TUNNEL, errors_in, expect, writer


@pytest.fixture
def write(tmp_path):
    return writer(tmp_path)


@pytest.fixture
def errors_of(write):
    return lambda text: errors_in(write(text))


# ---- bypass, which the kernel's routing has to be able to carry out -------------------------------------------------------------

BYPASS = '[[policy]]\naction = "bypass"\nremote = "10.2.0.0/24"\n'
DISCARD = '[[policy]]\naction = "discard"\nremote = "10.2.0.0/24"\n'
INEXPRESSIBLE = [
    ('protocol = "icmp"\nicmp_type = 8\n', "the ICMP type apart; leave icmp_type out of it$"),
    ('local = "10.1.0.1-10.1.255.254"\n', "30 pairs of prefixes apart; write ranges that are 16 at the most$"),
    ('protocol = "udp"\nlocal_ports = "1024-65535"\n', r"ports 1024-65535 \(its rules take 1 to 65534\) apart; write 1024-65534$"),
    ('protocol = "udp"\nremote_ports = "0-9"\n', r"ports 0-9 \(its rules take 1 to 65534\) apart; write 1-9$"),
]


@pytest.mark.parametrize(("keys", "says"), INEXPRESSIBLE)
def test_a_bypass_that_routing_cannot_express_is_refused(errors_of, keys, says):
    (line,) = errors_of(TUNNEL + AUTH + PROXY.replace(".0/24", ".0/16") + BYPASS + keys)
    assert re.search("^policy #1: action: the kernel's routing, which carries bypass out, cannot tell .*" + says, line)


@pytest.mark.parametrize(("keys", "says"), INEXPRESSIBLE)
def test_a_bypass_that_an_earlier_policy_cuts_inexpressibly_is_refused(errors_of, keys, says):
    first = DISCARD.replace('remote = "10.2.0.0/24"', 'remote = "10.2.0.0/25"')
    (line,) = errors_of(TUNNEL + AUTH + PROXY.replace(".0/24", ".0/16") + first + keys + BYPASS)
    assert re.search(r"^policy #2: action: policy #1 \(discard\) comes first and takes a part out of it, but .*" + says, line)


def test_a_policy_that_takes_nothing_out_of_a_bypass_may_be_anything(write):
    elsewhere = DISCARD.replace("10.2.0.0/24", "10.2.7.0/24") + 'protocol = "icmp"\nicmp_type = 8\n'
    text = TUNNEL + AUTH + PROXY.replace(".0/24", ".0/16") + elsewhere + BYPASS
    assert [policy.action for policy in load(write(text)).policies] == ["discard", "bypass"]


# ---- rules that are never reached ----------------------------------------------------------------------------------------------


def tunnel_text(name: str, interface: str, *proxy_ids: tuple[str, str], keys: str = "") -> str:
    proxies = "".join(f'[[tunnel.proxy_id]]\nlocal = "{local}"\nremote = "{remote}"\n' for local, remote in proxy_ids)
    return f'[[tunnel]]\nname = "{name}"\nremote = "192.0.2.2"\ninterface = "{interface}"\n{keys}{proxies}{AUTH}'


def policy_text(action: str, **keys: str) -> str:
    return f'[[policy]]\naction = "{action}"\n' + "".join(f'{key} = "{value}"\n' for key, value in keys.items())


A, B = ("10.1.0.0/24", "10.2.0.0/24"), ("10.1.0.0/16", "10.2.0.0/16")

UNROUTED = 'routes = "none"\n'

REACH = [
    # tunnels and policies, the lines they get
    (tunnel_text("x", "i0", A, B), []),
    (
        tunnel_text("x", "i0", B, A),
        ['tunnel "x": proxy_id: never reached: its own earlier 10.1.0.0/16 <-> 10.2.0.0/16 holds all of 10.1'],
    ),
    (tunnel_text("x", "i0", A) + tunnel_text("y", "i1", A, keys=UNROUTED), []),
    (
        tunnel_text("x", "i0", A) + tunnel_text("y", "i0", A),
        ['tunnel "y": proxy_id: selectors are those of tunnel "x" on the same interf'],
    ),
    (
        tunnel_text("x", "i0") + tunnel_text("y", "i0"),
        ['tunnel "y": interface: selectors are those of tunnel "x" on the same interface i0'],
    ),
    (tunnel_text("x", "i0") + tunnel_text("y", "i1"), []),
    (tunnel_text("x", "i0", B) + tunnel_text("y", "i0", A), ['tunnel "y": proxy_id: never reached: tunnel "x"\'s earlier']),
    (
        tunnel_text("x", "i0", A) + policy_text("discard", remote="10.2.0.0/16"),
        ['tunnel "x": proxy_id: never reached: policy #1 \\(discard'],
    ),
    (tunnel_text("x", "i0", A) + policy_text("protect", tunnel="x", remote="10.2.0.0/16"), []),
    (
        tunnel_text("x", "i0", B) + policy_text("discard", local="10.1.0.0/16") + policy_text("discard", local="10.1.2.0/24"),
        ["^policy #2: never reached: policy #1", 'tunnel "x": proxy_id: never reached: policy #1'],
    ),
    (
        tunnel_text("x", "i0", B)
        + policy_text("discard", local="10.1.9.0/24", protocol="udp")
        + policy_text("discard", local="10.1.9.0/24"),
        [],
    ),
    (
        tunnel_text("x", "i0", B)
        + policy_text("discard", local="10.1.9.0/24", protocol="udp", remote_ports="1-100")
        + policy_text("discard", local="10.1.9.0/25", protocol="udp", remote_ports="50-60"),
        ["^policy #2: never reached: policy #1 "],
    ),
    (
        tunnel_text("x", "i0", B)
        + policy_text("discard", local="10.1.0.0-10.1.0.99")
        + policy_text("discard", local="10.1.0.100-10.1.0.255")
        + policy_text("protect", tunnel="x", local="10.1.0.0/24"),
        [r"^policy #3: never reached: policy #1 \(discard .*\) and policy #2 \(discard .*\) together hold all of 10.1.0.0/24"],
    ),
    (
        tunnel_text("x", "i0", B)
        + policy_text("discard", local="10.1.9.0/24")
        + policy_text("protect", tunnel="x", local="10.1.9.0/24"),
        [r"^policy #2: contradicts policy #1 \(discard 10.1.9.0/24 <-> 0.0.0.0/0\): the first one decides; take one of both out"],
    ),
    (
        tunnel_text("x", "i0", B)
        + policy_text("discard", protocol="icmp", icmp_type="8")
        + policy_text("discard", protocol="icmp", icmp_type="8", icmp_code="0")
        + policy_text("discard", protocol="icmp", icmp_type="0"),
        ["^policy #2: never reached: policy #1 "],
    ),
    (
        tunnel_text("x", "i0", A)
        + tunnel_text("y", "i1", A, keys=UNROUTED)
        + policy_text("protect", tunnel="x", local="10.1.0.0/16"),
        [],
    ),
]


ROUTED = [
    # a configuration, and the lines that its routes get
    (tunnel_text("x", "i0", A) + tunnel_text("y", "i0", B), []),
    (
        tunnel_text("x", "i0", A) + tunnel_text("y", "i1", A),
        ['^tunnel "y": routes: 10.2.0.0/24 is routed into i0 by tunnel "x" already, with the same metric; write routes = "none"'],
    ),
    (
        tunnel_text("x", "i0", A, keys='routes = ["10.2.0.0/25", "10.3.0.0/24"]\n'),
        ['^tunnel "x": routes: 10.3.0.0/24 lies outside what tunnel "x" protects; write a part of 10.2.0.0/24$'],
    ),
    (tunnel_text("x", "i0", keys='routes = ["10.3.0.0/24"]\n'), []),
    (
        tunnel_text("x", "i0", A) + tunnel_text("y", "i1", A, keys=UNROUTED) + '[[route]]\nprefix = "10.2.0.0/24"\ntunnel = "y"\n',
        ['^route #1: metric: 10.2.0.0/24 is routed into i0 with metric 50 by tunnel "x"; write another metric$'],
    ),
    (
        tunnel_text("x", "i0", A)
        + tunnel_text("y", "i1", A, keys=UNROUTED)
        + '[[route]]\nprefix = "10.2.0.0/24"\ntunnel = "y"\nmetric = 60\n',
        [],
    ),
]


@pytest.mark.parametrize(("text", "says"), ROUTED)
def test_a_route_leads_into_one_interface_and_to_what_is_protected(errors_of, text, says):
    lines = errors_of(text)
    assert len(lines) == len(says)
    assert all(re.search(pattern, line) for pattern, line in zip(says, lines, strict=True))


def test_the_metric_of_routes_is_the_same_everywhere():
    assert model.ROUTE_METRIC == routes.METRIC == tables.Route.__struct_defaults__[-1]


@pytest.mark.parametrize(
    ("remote", "prefix", "warned"),
    [
        ("192.0.2.2", "192.0.2.0/24", True),
        ("2001:db8::2", "2001:db8::/32", True),
        ("192.0.2.2", "192.0.2.2/32", False),
        ("192.0.2.2", "0.0.0.0/0", False),
        ("192.0.2.2", "10.2.0.0/24", False),
        ("gw.example", "10.2.0.0/24", False),
    ],
)
def test_a_peer_inside_its_own_tunnel_is_warned_of(write, remote, prefix, warned):
    """It works: our own packets are marked. But who wants that writes the peer's address, or a default route."""
    text = tunnel_text("x", "i0", keys=f'routes = ["{prefix}"]\n').replace("192.0.2.2", remote)
    told = [str(finding) for finding in load(write(text)).warnings]
    assert any(f"the peer {remote} lies in {prefix}, which is routed into its own tunnel" in line for line in told) == warned


@pytest.mark.parametrize(
    ("local", "remote", "warned"),
    [
        ("10.1.0.0/24", "10.1.0.0/24", True),
        ("fd00:1::/64", "fd00:1::/64", True),
        ("10.1.0.0/24", "10.0.0.0/8", False),
        ("0.0.0.0/0", "0.0.0.0/0", False),
    ],
)
def test_one_prefix_on_both_sides_is_warned_of(write, local, remote, warned):
    text = tunnel_text("x", "i0", (local, remote), keys=UNROUTED)
    told = [str(finding) for finding in load(write(text)).warnings]
    assert any(f"{local} is the prefix of both sides" in line and "renumber one side" in line for line in told) == warned


@pytest.mark.parametrize(
    ("keys", "carried"),
    [
        ({"remote": "10.2.0.128/25"}, True),
        ({"remote": "10.0.0.0/8"}, True),
        ({"protocol": "tcp", "remote_ports": "20-25"}, True),
        ({"remote": "10.3.0.0/24"}, False),
        ({"local": "10.2.0.0/24"}, False),
        ({"remote": "2001:db8::/32"}, False),
        ({"protocol": "udp"}, False),
        ({"protocol": "tcp", "remote_ports": "26-30"}, False),
    ],
)
def test_a_protect_policy_needs_a_tunnel_that_carries_some_of_it(errors_of, keys, carried):
    tunnel = TUNNEL + PROXY + 'protocol = "tcp"\nremote_ports = "22-25"\n' + AUTH
    lines = errors_of(tunnel + policy_text("protect", tunnel="to-b", **keys))
    expect(lines, *([] if carried else ['^policy #1: tunnel: tunnel "to-b" carries none of ']))


@pytest.mark.parametrize(("text", "says"), REACH)
def test_a_rule_wholly_shadowed_by_an_earlier_one_is_told(errors_of, text, says):
    expect(errors_of(text), *says)


def test_interfaces_do_not_share_an_address(errors_of):
    text = (TUNNEL + 'address = ["169.254.1.1/30"]' + AUTH) + tunnel_text("y", "i1").replace("[tunnel.auth]", "").replace(
        'interface = "i1"', 'interface = "i1"\naddress = ["169.254.1.1/24"]\n[tunnel.auth]'
    )
    expect(errors_of(text), 'tunnel "y": address: 169.254.1.1 is also on ipsec0')


def test_two_manual_tunnels_need_two_spis(errors_of):
    second = TUNNEL.replace("to-b", "to-c").replace("192.0.2.2", "192.0.2.3") + 'interface = "ipsec1"' + MANUAL
    lines = errors_of(TUNNEL + MANUAL + second)
    expect(
        lines,
        'tunnel "to-c": manual_unsafe.spi_in: 0x00001001 is also that of tunnel "to-b"',
        "key_in_file: holds the same key",
        "key_out_file: holds the same key",
    )
