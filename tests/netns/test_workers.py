"""Several workers: tunnels shared out over TUN queues and sockets, on real devices.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

Three tunnels between the same two gateways, UDP ports 7000-7009, 7010-7019 and all the rest, share ipsec0: each direction has
packets at workers that do not own them.
"""

from __future__ import annotations

from functools import partial

import pytest

from ipsec_dp.rig import netns
from tests.netns.at_rest import assert_at_rest
from tests.netns.from_texts import gateways_of, negotiate
from tests.netns.numbered import numbered_flows
from tests.netns.traffic import ping, tcp_both_ways, udp_both_ways, until

PORTS = ('protocol = "udp"\n{far}_ports = "7000-7009"\n', 'protocol = "udp"\n{far}_ports = "7010-7019"\n', "")
KEYS = tuple(f"t{number}.psk" for number in range(len(PORTS)))
FLOWS = (7000, 7010, 7020)  # one of each tunnel
STREAM_S = 4.0
CPU_PART_MAX = 0.01  # of a core, for a gateway
WINDOW = 100  # packets of one stream on their way at the most


def configuration(side, workers, encapsulation, offloads, esp=""):
    ends = (netns.GW_A_OUTER[0], netns.GW_B_OUTER[0]) if side == "a" else (netns.GW_B_OUTER[0], netns.GW_A_OUTER[0])
    other, far = ("b", "remote") if side == "a" else ("a", "local")
    nets = (netns.SITE_A_NETS[0], netns.SITE_B_NETS[0]) if side == "a" else (netns.SITE_B_NETS[0], netns.SITE_A_NETS[0])
    text = f'[gateway]\nname = "gw{side.upper()}"\nworkers = {workers}\noffloads = "{offloads}"\n'
    for number, ports in enumerate(PORTS):
        text += (
            f'[[tunnel]]\nname = "t{number}"\nencapsulation = "{encapsulation}"\nlocal = "{ends[0]}"\nremote = "{ends[1]}"\n'
            f'start = "{"start" if side == "a" else "respond"}"\n'
            f'[[tunnel.proxy_id]]\nlocal = "{nets[0]}"\nremote = "{nets[1]}"\n{ports.format(far=far)}'
            f'[tunnel.auth]\nlocal_id = "{side}{number}.example"\nremote_id = "{other}{number}.example"\n'
            f'psk_file = "t{number}.psk"\n'
            f"[tunnel.esp]\n{esp}\n"
        )
    return text


def start(sites, directory, workers, encapsulation="udp", offloads="all", esp=""):
    """Both gateways, negotiated; `workers` of A and B."""
    texts = [configuration(side, count, encapsulation, offloads, esp) for side, count in zip("ab", workers, strict=True)]
    gateways = gateways_of(sites, directory, texts, KEYS)
    negotiate(gateways)
    return gateways


@pytest.fixture
def gateways(shared_sites, tmp_path, request):
    made = start(shared_sites, tmp_path, **request.param)
    yield made
    assert [gateway.terminate() for gateway in made] == [0, 0]


def streamed(near, far, addresses, seconds=STREAM_S):
    """A numbered stream of each flow at once; by port, what was sent and the numbers in the order of arrival."""
    source, destination = addresses
    flows = {port: (destination, port) for port in FLOWS}
    return numbered_flows(near, far, source, flows, window=WINDOW, seconds=seconds)


def workers_of(gateway):
    return gateway.status()["workers"]


def total(gateway, name):
    return sum(worker[name] for worker in workers_of(gateway))


def all_taken(gateway):
    return total(gateway, "handed_over") == total(gateway, "taken_over")


MIXES = [
    pytest.param({"workers": (2, 2)}, id="2-2-udp"),
    pytest.param({"workers": (3, 2)}, id="3-2-udp"),
    pytest.param({"workers": (1, 3), "offloads": "none"}, id="1-3-udp-no-offloads"),
    pytest.param({"workers": (2, 3), "encapsulation": "esp"}, id="2-3-esp"),
    pytest.param({"workers": (2, 2), "encapsulation": "esp", "offloads": "none"}, id="2-2-esp-no-offloads"),
]


@pytest.mark.parametrize("gateways", MIXES, indirect=True)
def test_every_flow_arrives_whole_and_in_order_and_all_workers_work(shared_sites, gateways):
    hosts = (shared_sites.host_a, shared_sites.host_b)
    for near, far, ends in ((*hosts, (netns.HOST_A[0], netns.HOST_B[0])), (*hosts[::-1], (netns.HOST_B[0], netns.HOST_A[0]))):
        ping(near, ends[1])
        if near is hosts[0]:  # the ports of the proxy IDs are hostB's
            for port in FLOWS:
                udp_both_ways(near, far, ends[1], port=port + 1)
            sent, arrived = streamed(near, far, ends, STREAM_S / 2)
            assert {port: list(range(count)) for port, count in sent.items()} == arrived
        tcp_both_ways(near, far, ends[1], 4 << 20)
    for gateway in gateways:
        shown = workers_of(gateway)
        assert all(worker["packets_in"] > 0 and worker["packets_out"] > 0 for worker in shown), shown
        assert gateway.status()["drops"].get("handover_full", 0) == 0
        until(partial(all_taken, gateway), "everything taken over")
        assert (total(gateway, "handed_over") > 0) == (len(shown) > 1)


@pytest.mark.parametrize(
    "gateways",
    [pytest.param({"workers": (2, 3), "esp": 'rekey_after = "1s"\nlifetime = "30s"'}, id="2-3")],
    indirect=True,
)
def test_rekeys_under_traffic_lose_and_reorder_nothing(shared_sites, gateways):
    before = spis(gateways[0])
    sent, arrived = streamed(shared_sites.host_a, shared_sites.host_b, (netns.HOST_A[0], netns.HOST_B[0]))
    assert {port: list(range(count)) for port, count in sent.items()} == arrived
    until(lambda: spis(gateways[0]).isdisjoint(before), "a rekey of each")


def spis(gateway):
    return {child["spi_in"] for tunnel in gateway.status()["tunnels"] for child in tunnel["children"]}


@pytest.mark.parametrize("gateways", [{"workers": (3, 2)}], indirect=True)
def test_ike_behind_its_marker_reaches_the_control_plane(gateways):
    """A rekey of each IKE SA goes over port 4500."""
    before = [worker["packets_in"] for worker in workers_of(gateways[1])]
    known = {tunnel["ike"]["spi_i"] for tunnel in gateways[0].status()["tunnels"]}
    for number in range(len(PORTS)):
        gateways[0].ask("rekey", name=f"t{number}", ike=True)

    def renewed():
        tunnels = gateways[0].status()["tunnels"]
        return all(tunnel["ike"] and tunnel["ike"]["spi_i"] not in known for tunnel in tunnels)

    until(renewed, "new IKE SAs")
    assert [worker["packets_in"] for worker in workers_of(gateways[1])] == before
    assert gateways[1].status()["traffic"]["ike_in"] > 0


@pytest.mark.measure
@pytest.mark.parametrize("gateways", [{"workers": (3, 3)}], indirect=True)
def test_idle_workers_take_next_to_no_cpu(shared_sites, gateways):
    tcp_both_ways(shared_sites.host_a, shared_sites.host_b, netns.HOST_B[0], 1 << 20)
    assert_at_rest(gateways, CPU_PART_MAX)
