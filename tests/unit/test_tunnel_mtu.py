"""What is left for inner packets: by suite, encapsulation and path, for the data plane and for the host."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from ipsec_dp.config.packets import Packets
from ipsec_dp.ipsec.suites import inner_mtu, parse_suite
from ipsec_dp.network.peer_routes import OUTER_MTU
from ipsec_dp.services.path_mtu_state import Intervals, PathMtu, TunnelMtus
from ipsec_dp.services.tunnel_mtu import WHOLE, MtuTable, OuterEnds, OuterShape, settings_of, whole_interfaces
from tests.doubles.config import PSK, configured, proxy_id, tunnel

GCM, CBC = parse_suite("aes128gcm16"), parse_suite("aes256-sha256")
TO_PORT = proxy_id("10.1.0.0/24", "10.2.0.0/24") + '  protocol = "udp"\n  remote_ports = 9000\n'
PEER, PEER6 = ip_address("192.0.2.2"), ip_address("2001:db8::2")


@pytest.fixture
def table():
    made = MtuTable()
    for remote, link in ((PEER, 1500), (PEER6, 1500)):
        made.paths[OuterEnds(remote)] = PathMtu(remote.version, link, Intervals(), 0.0)
    return made


def narrow(table, remote, octets):
    assert table.paths[OuterEnds(remote)].reported(octets, 1000.0)


@pytest.fixture
def config(tmp_path):
    def made(*lines, count=1, keys=PSK):
        tunnels = [tunnel(f"t{number}", *lines, interface=f"ipsec{number}", keys=keys) for number in range(count)]
        return configured(tmp_path, *tunnels)

    return made


@pytest.fixture
def one(config):
    return lambda *lines: config(*lines).tunnels[0]


# ---- the largest inner packet


def test_it_fits_under_every_suite_that_is_in_use(table, one):
    shapes = {OuterShape(GCM, True, PEER), OuterShape(CBC, True, PEER)}
    table.set_shapes(one(), shapes)
    assert table["t0"] == min(inner_mtu(1500, suite, "udp", 4) for suite in (GCM, CBC))


def test_it_fits_the_path_and_a_peer_that_is_not_known_has_a_usual_one(table, one):
    table.set_shapes(one(), {OuterShape(GCM, False, None)})
    assert table["t0"] == inner_mtu(OUTER_MTU, GCM, "esp", 4)
    narrow(table, PEER6, 1400)
    table.set_shapes(one(), {OuterShape(GCM, False, PEER6)})
    assert table["t0"] == inner_mtu(1400, GCM, "esp", 6)


def test_a_change_of_the_path_is_one_for_the_tunnels_that_it_binds(table, config):
    tunnels = config(count=2).tunnels
    for each in tunnels:
        table.set_shapes(each, {OuterShape(GCM, True, PEER)})
    narrow(table, PEER, 1400)
    assert table.bound(OuterEnds(PEER)) == {"t0", "t1"}
    assert [table.update(each, OuterEnds(PEER)) for each in tunnels] == [True, True]
    assert [table.update(each, OuterEnds(PEER)) for each in tunnels] == [False, False], "it is known already"
    assert table["t0"] == inner_mtu(1400, GCM, "udp", 4)


@pytest.mark.parametrize(
    ("line", "remote", "bound"),
    [('df = "copy"', PEER, True), ('df = "clear"', PEER, False), ('df = "clear"', PEER6, True), ("mtu = 1300", PEER, False)],
    ids=["as the inner packet", "routers fragment IPv4", "but not IPv6", "a fixed one"],
)
def test_whom_a_path_binds(table, one, line, remote, bound):
    table.set_shapes(one(line), {OuterShape(GCM, True, remote)})
    narrow(table, remote, 1400)
    table.update(one(line), OuterEnds(remote))
    assert (table.bound(OuterEnds(remote)) == {"t0"}) is bound
    assert (table["t0"] == inner_mtu(1400, GCM, "udp", remote.version)) is bound


def test_a_tunnel_that_moves_to_another_peer_leaves_the_path(table, one):
    table.set_shapes(one(), {OuterShape(GCM, True, PEER)})
    table.set_shapes(one(), {OuterShape(GCM, True, PEER6)})
    assert (table.bound(OuterEnds(PEER)), table.bound(OuterEnds(PEER6))) == (set(), {"t0"})


def test_a_tunnel_that_is_gone_is_forgotten(table, config):
    both = config(count=2)
    for each in both.tunnels:
        table.set_shapes(each, {OuterShape(GCM, True, PEER)})
    table.forget(replace(both, tunnels=both.tunnels[:1]))
    assert (list(table), table.bound(OuterEnds(PEER)), table.shapes("t1")) == (["t0"], {"t0"}, set())


# ---- who needs to know


def test_the_host_hands_over_more_where_the_outer_packet_is_fragmented(table, config):
    before, after = config(), config('fragment = "after"')
    for each in (before, after):
        table.set_shapes(each.tunnels[0], {OuterShape(GCM, True, PEER)})
        narrowed = inner_mtu(1500, GCM, "udp", 4)
        assert table.of_host(each) == {"t0": 1500 if each is after else narrowed}


@pytest.mark.parametrize("lines", ["", "mtu = 1300", 'fragment = "after"'])
def test_where_a_rule_asks_for_ports_the_kernel_hands_over_everything_whole(table, config, lines):
    """What it cuts shows no ports; the data plane cuts where that does no harm. All tunnels of the interface share its routes."""
    made = config(lines, keys=TO_PORT + PSK)
    beside = configured(
        made.path.parent, *(tunnel(f"t{n}", keys=(proxy_id(f"10.{n}.0.0/24", "10.9.0.0/24") + PSK)) for n in (2, 3))
    )
    both = replace(made, tunnels=(*made.tunnels, *beside.tunnels[:1], replace(beside.tunnels[1], interface="ipsec7")))
    for each in both.tunnels:
        table.set_shapes(each, {OuterShape(GCM, True, PEER)})
    narrowed = inner_mtu(1500, GCM, "udp", 4)
    assert whole_interfaces(both) == {"ipsec0"}
    assert table.of_host(both) == {"t0": WHOLE, "t2": WHOLE, "t3": narrowed}
    assert table.of_host(beside) == {"t2": narrowed, "t3": narrowed}, "the configuration changed"


def test_a_policy_for_ports_is_such_a_rule(tmp_path, table):
    policy = '[[policy]]\naction = "protect"\ntunnel = "t0"\nprotocol = "udp"\nremote_ports = 53\n'
    made = configured(tmp_path, tunnel("t0"), policy)
    assert whole_interfaces(made) == {"ipsec0"}
    assert whole_interfaces(replace(made, policies=())) == frozenset()


@pytest.mark.parametrize(("octets", "udp", "needed"), [(1400, False, False), (1300, False, True), (1300, True, False)])
def test_the_kernel_fragments_bare_esp_where_ipv6_of_1280_octets_no_longer_fits(table, one, octets, udp, needed):
    table.set_shapes(one(), {OuterShape(GCM, udp, PEER6)})
    narrow(table, PEER6, octets)
    assert table.needs_fragments(OuterEnds(PEER6)) is needed


@pytest.mark.parametrize(("octets", "udp", "needed"), [(1500, False, False), (1499, False, True), (1499, True, False)])
def test_it_does_so_where_packets_stay_whole_and_a_later_hop_takes_less(table, config, octets, udp, needed):
    table.set_shapes(config(keys=TO_PORT + PSK).tunnels[0], {OuterShape(GCM, udp, PEER6)})
    if octets < 1500:
        narrow(table, PEER6, octets)
    assert table.needs_fragments(OuterEnds(PEER6)) is needed


def test_never_over_ipv4(table, one):
    table.set_shapes(one(), {OuterShape(GCM, False, PEER)})
    narrow(table, PEER, 700)
    assert not table.needs_fragments(OuterEnds(PEER))


def test_status_tells_both_sizes_and_no_path_without_a_peer(table, one):
    table.set_shapes(one(), {OuterShape(GCM, True, PEER)})
    assert table.status("t0") == TunnelMtus(inner_mtu(1500, GCM, "udp", 4), 1500)
    table.set_shapes(one(), {OuterShape(GCM, True, None)})
    assert table.status("t0").path_mtu is None
    assert table.status("no such") == TunnelMtus(None, None)


@pytest.mark.parametrize(("clamp", "mss"), [("off", (0, 0)), ("auto", (1360, 1340)), (1200, (1200, 1200))])
def test_the_data_plane_clamps_to_what_fits_or_to_what_is_written(clamp, mss):
    settings = settings_of(Packets(mss_clamp=clamp), 1400)
    assert (settings.mtu, settings.mss4, settings.mss6) == (1400, *mss)
