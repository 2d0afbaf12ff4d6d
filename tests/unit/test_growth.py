"""What is worked out for the tunnels that came or went alone is what the whole gives: guard's selectors and plan, routes, who lies
behind a tunnel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipsec_dp.config import Tunnel, load
from ipsec_dp.config.model import Policy, Route
from ipsec_dp.config.nested import OTHERS_MAX, Holder, Nesting
from ipsec_dp.host import HostError
from ipsec_dp.host.guard import plan
from ipsec_dp.host.guard_growth import Planner, adapted
from ipsec_dp.host.outer import OwnAddress
from ipsec_dp.ipsec.addresses import Address, AddressRange
from ipsec_dp.ipsec.selectors import ANY_PROTOCOL, Range, SelectorPair
from ipsec_dp.network.desired import GuardSelectors, guard_selectors
from ipsec_dp.network.interface_mtu import route_mtus
from ipsec_dp.network.route_plan import RouteContext, RoutePlan
from ipsec_dp.util.few_changes import few_changes

TEXT = """
[[tunnel]]
name = "a"
remote = "192.0.2.2"
interface = "ipsec0"
  [tunnel.auth]
  local_id = "a.example"
  remote_id = "b.example"
  psk_file = "psk"
"""
DEVICES = {"ipsec0": 5, "ipsec1": 6}
OWN = [OwnAddress(ip_address("10.1.0.1"), "lan"), OwnAddress(ip_address("fd01::1"), "lan")]
NEIGHBOURS = [f"172.16.0.{16 * number}/28" for number in range(6)]

# Locals that overlap, remotes that adjoin, overlap, hold each other or the local side, and everything.
pairs4 = st.tuples(
    st.sampled_from(["10.1.0.0/24"] * 5 + ["10.1.0.0/25", "10.9.0.0/24"]),
    st.sampled_from(NEIGHBOURS * 3 + ["172.16.0.0/26", "172.16.0.8-172.16.0.40", "10.0.0.0/8", "0.0.0.0/0"]),
)
pairs6 = st.tuples(st.just("fd01::/64"), st.sampled_from(["fd02::/64", "fd02:0:0:1::/64", "::/0"]))
selectors = st.builds(
    lambda pair, protocol: SelectorPair(AddressRange.of(pair[0]), AddressRange.of(pair[1]), protocol=protocol),
    st.one_of(pairs4, pairs4, pairs6),
    st.sampled_from([ANY_PROTOCOL] * 6 + [Range(6, 6)]),
)
shapes = st.fixed_dictionaries(
    {
        "proxy_ids": st.lists(selectors, min_size=1, max_size=2).map(tuple),
        "interface": st.sampled_from(["ipsec0", "ipsec0", "ipsec0", "ipsec1"]),
        "routed": st.sampled_from([True, True, True, False]),
    }
)
places = st.integers(0, 7)
narrows = st.sampled_from([{"t1", "t2", "t4", "t5", "t6"}] * 4 + [{"t1"}, set()])
verbs = st.sampled_from(["add"] * 6 + ["remove", "change", "move"])
steps = st.lists(st.tuples(verbs, places, shapes, narrows), max_size=9)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = tmp_path_factory.mktemp("growth")
    (directory / "psk").touch(mode=0o600)
    (directory / "psk").write_text("long enough, and a secret")
    (directory / "a.toml").write_text(TEXT)
    config = load(directory / "a.toml")
    return replace(config, tunnels=()), config.tunnels[0]


def shaped(tunnel, name, shape):
    routes = tuple(prefix for each in shape["proxy_ids"] for prefix in each.remote.prefixes) if shape["routed"] else ()
    return replace(tunnel, name=name, interface=shape["interface"], proxy_ids=shape["proxy_ids"], routes=routes)


def idle(tunnel, name, remote):
    proxy_id = SelectorPair(AddressRange.of("10.1.0.0/24"), AddressRange.of(remote))
    return shaped(tunnel, name, {"proxy_ids": (proxy_id,), "interface": "ipsec0", "routed": True})


def take_step(tunnels, verb, place, new):
    """At this place a tunnel is added, removed, changed into `new` under its own name, or moved to the front."""
    at = place % (len(tunnels) + 1)
    if verb == "add":
        tunnels.insert(at, new)
    elif at < len(tunnels):
        old = tunnels.pop(at)
        if verb == "change":
            tunnels.insert(at, replace(new, name=old.name))
        elif verb == "move":
            tunnels.insert(0, old)


def context(config):
    return RouteContext(DEVICES, OWN, frozenset(), config.routes)


def wide(config, narrow=()):
    """MTUs of its tunnels, octets."""
    return {tunnel.name: 1300 if tunnel.name in narrow else 1400 for tunnel in config.tunnels}


def led(config, mtus):
    """None: refused."""
    try:
        return RoutePlan(config, context(config), mtus)
    except HostError:
        return None


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(steps=steps)
def test_any_row_of_changes_ends_where_the_whole_does(base, steps):
    config, tunnel = base
    tunnels: list[Tunnel] = []
    guarded, planner, lead = GuardSelectors(), Planner(), None
    for number, (verb, place, shape, narrow) in enumerate(steps):
        take_step(tunnels, verb, place, shaped(tunnel, f"t{number}", shape))
        config = replace(config, tunnels=tuple(tunnels))

        assert guarded.of(config) == guard_selectors(config)
        wanted = guarded.of(config)[0]
        devices = {(7, each.interface) for each in tunnels}
        assert planner.plan(wanted, devices) == plan(wanted, devices)

        mtus = wide(config, narrow)
        whole = led(config, mtus)
        if lead is None or lead.adapt(config, context(config), mtus) is None:
            lead = led(config, mtus)
        assert (lead is None) == (whole is None)
        if lead is not None and whole is not None:
            assert set(lead.wanted) == set(whole.wanted)
            assert set(lead.prefixes) == set(whole.prefixes)
            assert set(lead.notes) == set(whole.notes)
            assert lead.mtus == whole.mtus == route_mtus(config, mtus)
            assert lead.suits(config, mtus)
            other = wide(config, {"t0"} ^ narrow)
            assert not lead.suits(config, other) or route_mtus(config, other) == lead.mtus


ASKED: tuple[Address, ...] = tuple(
    map(ip_address, ("192.0.2.2", "172.16.0.5", "172.16.0.20", "172.16.0.36", "10.0.0.9", "10.1.0.9", "fd02::1"))
)
PEERS: list[tuple[Address | str, ...]] = [ASKED[:1], ASKED[:1], ASKED[2:3], ASKED[3:4], (ASKED[1], "b.example"), ()]
remotes = st.sampled_from(PEERS)
REACHED = Policy(
    action="bypass", tunnel=None, selectors=(SelectorPair(AddressRange.of("10.1.0.0/24"), AddressRange.of("172.16.0.20")),)
)
written = st.sampled_from([{}] * 8 + [{"policies": (REACHED,)}])


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(st.tuples(verbs, places, shapes, remotes, written), max_size=9))
def test_any_row_of_changes_hides_the_peers_that_the_whole_does(base, steps):
    config, tunnel = base
    tunnels: list[Tunnel] = []
    nesting = Nesting.of(config)
    for number, (verb, place, shape, peers, others) in enumerate(steps):
        take_step(tunnels, verb, place, replace(shaped(tunnel, f"t{number}", shape), remotes=peers))
        config = replace(base[0], tunnels=tuple(tunnels), **others)
        if not nesting.adapt(config):
            nesting = Nesting.of(config)
        whole = Nesting.of(config)
        assert nesting.silent() == whole.silent()
        for peer in ASKED:
            assert nesting.of_stranger(peer) == whole.of_stranger(peer)
            for each in tunnels:
                assert nesting.holder(each.name, peer, ASKED[0]) == whole.holder(each.name, peer, ASKED[0])


def test_what_a_tunnel_more_hides_is_worked_out_alone_unless_others_hide_it_too(base):
    config, tunnel = base
    tunnels = tuple(idle(tunnel, f"t{n}", net) for n, net in enumerate(NEIGHBOURS[:4]))
    nesting = Nesting.of(replace(config, tunnels=tunnels))
    new, same = idle(tunnel, "new", NEIGHBOURS[5]), idle(tunnel, "same", NEIGHBOURS[0])
    assert nesting.adapt(replace(config, tunnels=(new, *tunnels)))
    assert nesting.adapt(replace(config, tunnels=(new, *tunnels[1:])))
    assert nesting.adapt(replace(config, tunnels=(new, *tunnels[2:], same)))
    assert not nesting.adapt(replace(config, tunnels=(new, *tunnels[2:], same, tunnels[0])))


def test_of_very_many_tunnels_over_one_prefix_those_that_are_first_now_hide_it(base):
    """The last are not looked at; one that is moved to the front is."""
    config, tunnel = base
    own = tuple(replace(idle(tunnel, f"t{n}", NEIGHBOURS[0]), remotes=ASKED[1:2]) for n in range(OTHERS_MAX))
    other = replace(idle(tunnel, "other", NEIGHBOURS[0]), remotes=ASKED[:1])
    nesting, moved = Nesting.of(replace(config, tunnels=(*own, other))), replace(config, tunnels=(other, *own))
    assert nesting.of_stranger(ASKED[1]) is None
    assert not nesting.adapt(moved)
    assert Nesting.of(moved).of_stranger(ASKED[1]) == Holder("other", ip_network(NEIGHBOURS[0]))


def test_one_tunnel_more_is_worked_out_alone(base):
    config, tunnel = base
    before = replace(config, tunnels=tuple(idle(tunnel, f"t{n}", net) for n, net in enumerate(NEIGHBOURS[:4])))
    new = idle(tunnel, "new", NEIGHBOURS[5])
    after = replace(before, tunnels=(new, *before.tunnels))
    guarded = GuardSelectors()
    first, second = guarded.of(before)[0], guarded.of(after)[0]
    changes = few_changes(first, second)
    assert changes is not None
    assert [str(each.remote) for each in changes.added] == ["172.16.0.80-172.16.0.95"]
    assert adapted(plan(first, [(7, "ipsec0")]), second, changes) == plan(second, [(7, "ipsec0")])

    lead = RoutePlan(before, context(before), wide(before, ["t0"]))
    found = lead.adapt(after, context(after), wide(after, ["t0", "new"]))
    assert found is not None
    assert found.removed == []
    assert [(str(each.prefix), each.interface, str(each.source), each.mtu) for each in found.added] == [
        ("172.16.0.80/28", 5, "10.1.0.1", 1300)
    ]


def test_one_tunnel_less_or_another_is_worked_out_alone(base):
    """One that stands in a row of neighbours, whose range it leaves in two."""
    config, tunnel = base
    tunnels = tuple(idle(tunnel, f"t{n}", net) for n, net in enumerate(NEIGHBOURS[:5]))
    before = replace(config, tunnels=tunnels)
    elsewhere = idle(tunnel, "t2", "172.17.0.0/28")
    for now, added in ((tunnels[:2] + tunnels[3:], []), ((*tunnels[:2], elsewhere, *tunnels[3:]), ["172.17.0.0/28"])):
        after, guarded = replace(before, tunnels=now), GuardSelectors()
        first, second = guarded.of(before)[0], guarded.of(after)[0]
        changes = few_changes(first, second)
        assert changes is not None
        assert adapted(plan(first, [(7, "ipsec0")]), second, changes) == plan(second, [(7, "ipsec0")])
        found = RoutePlan(before, context(before), wide(before)).adapt(after, context(after), wide(after))
        assert found is not None
        assert [[str(route.prefix) for route in routes] for routes in found] == [added, ["172.16.0.32/28"]]


def test_what_another_tunnel_protects_too_stays_closed(base):
    config, tunnel = base
    both = replace(config, tunnels=(idle(tunnel, "wide", "172.16.0.0/27"), idle(tunnel, "narrow", "172.16.0.16-172.16.0.40")))
    guarded = GuardSelectors()
    first = guarded.of(both)[0]
    second = guarded.of(replace(both, tunnels=both.tunnels[:1]))[0]
    changes = few_changes(first, second)
    assert changes is not None
    found = adapted(plan(first, [(7, "ipsec0")]), second, changes)
    assert found is not None
    assert [str(remote) for _, remote in found.pairs[4]] == ["172.16.0.0-172.16.0.31"]


def test_a_tunnel_that_changes_but_not_in_what_is_routed_changes_no_route(base):
    config, tunnel = base
    tunnels = tuple(idle(tunnel, f"t{n}", net) for n, net in enumerate(NEIGHBOURS[:3]))
    before, after = (replace(config, tunnels=each) for each in (tunnels, (tunnels[0], replace(tunnels[1]), tunnels[2])))
    assert RoutePlan(before, context(before), wide(before)).adapt(after, context(after), wide(after)) == ([], [])


@pytest.mark.parametrize("shared", ["a prefix", "a [[route]]", "selectors for a route of another"])
def test_routes_are_worked_out_anew_where_others_depend_on_a_tunnel_that_goes(base, shared):
    config, tunnel = base
    one, other = idle(tunnel, "one", NEIGHBOURS[0]), idle(tunnel, "other", NEIGHBOURS[1])
    if shared == "a prefix":
        other = replace(other, routes=one.routes)
    elif shared == "selectors for a route of another":
        one, other = replace(one, routes=()), replace(other, routes=(*other.routes, *one.routes))
    else:
        config = replace(config, routes=(Route(prefix=ip_network("10.3.0.0/16"), tunnel="one", metric=50),))
    before, after = (replace(config, tunnels=each) for each in ((one, other), (replace(one), other)))
    assert RoutePlan(before, context(before), wide(before)).adapt(after, context(after), wide(after)) is None


@pytest.mark.parametrize("differs", [{"own": OWN[:1]}, {"devices": {**DEVICES, "ipsec0": 7}}, {"withdrawn": frozenset({"ipsec0"})}])
def test_routes_are_worked_out_anew_where_the_host_is_another(base, differs):
    config, tunnel = base
    config = replace(config, tunnels=(idle(tunnel, "t0", NEIGHBOURS[0]),))
    mtus = wide(config)
    assert RoutePlan(config, context(config), mtus).adapt(config, context(config), mtus) == ([], [])
    assert RoutePlan(config, context(config), mtus).adapt(config, replace(context(config), **differs), mtus) is None
    assert RoutePlan(config, context(config), mtus).adapt(config, context(config), wide(config, ["t0"])) is None
