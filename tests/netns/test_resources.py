"""One tunnel with a CHILD_SA for each worker (RFC 9611), on real devices: flows to several addresses of hostB, all at once.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

from functools import partial

import pytest

from ipsec_dp.rig import netns
from tests.netns.from_texts import gateways_of, negotiate
from tests.netns.numbered import bound, numbered_flows
from tests.netns.traffic import ping, tcp_both_ways, until

FLOWS = 12  # each to an address of its own: by addresses a flow finds its worker
PORT = 7100
KEYS = ("t.psk",)
EVERYBODY = 128
STREAM_S = 3.0
WINDOW = 50  # packets of one stream on their way at the most
PREFIX = netns.HOST_B[0].rsplit(".", 1)[0]
ADDRESSES = [f"{PREFIX}.{200 + number}" for number in range(FLOWS)]


def configuration(side, workers, esp):
    ends = (netns.GW_A_OUTER[0], netns.GW_B_OUTER[0]) if side == "a" else (netns.GW_B_OUTER[0], netns.GW_A_OUTER[0])
    nets = (netns.SITE_A_NETS[0], netns.SITE_B_NETS[0]) if side == "a" else (netns.SITE_B_NETS[0], netns.SITE_A_NETS[0])
    return (
        f'[gateway]\nname = "gw{side.upper()}"\nworkers = {workers}\n'
        f'[[tunnel]]\nname = "t"\nencapsulation = "udp"\nlocal = "{ends[0]}"\nremote = "{ends[1]}"\n'
        f'start = "{"start" if side == "a" else "respond"}"\n'
        f'[[tunnel.proxy_id]]\nlocal = "{nets[0]}"\nremote = "{nets[1]}"\n'
        f'[tunnel.auth]\npsk_file = "t.psk"\n[tunnel.esp]\n{esp}\n'
    )


@pytest.fixture
def addresses(shared_sites):
    for address in ADDRESSES:
        shared_sites.host_b.run("ip", "address", "add", f"{address}/32", "dev", "eth0")
    yield ADDRESSES
    for address in ADDRESSES:
        shared_sites.host_b.run("ip", "address", "del", f"{address}/32", "dev", "eth0")


@pytest.fixture
def gateways(shared_sites, tmp_path, addresses, request):
    workers, esp = request.param
    made = gateways_of(shared_sites, tmp_path, [configuration(*each, esp) for each in zip("ab", workers, strict=True)], KEYS)
    try:
        negotiate(made)
        yield made
        assert [gateway.terminate() for gateway in made] == [0, 0]
    finally:
        for gateway in made:
            gateway.kill()


def streamed(sites):
    """A numbered stream to each address at once; what was sent, and the numbers in the order of arrival."""
    flows = {address: (address, PORT) for address in ADDRESSES}
    return numbered_flows(sites.host_a, sites.host_b, netns.HOST_A[0], flows, window=WINDOW, seconds=STREAM_S)


def children(gateway):
    (tunnel,) = gateway.status()["tunnels"]
    return tunnel["children"]


def of_all_workers(gateway, count):
    """Asks for them by a packet, and tells whether each worker has one."""
    return len({child["worker"] for child in children(gateway)}) == count


def use_until_whole(sites, gateway, count):
    def whole():
        ping(sites.host_a, netns.HOST_B[0])
        return of_all_workers(gateway, count)

    until(whole, "a CHILD_SA for each worker", 60)


def to_everybody(sites):
    """A packet to each of so many addresses that no worker is without a flow."""
    with sites.host_a.call(partial(bound, (netns.HOST_A[0], 0))) as sender:
        for number in range(3, 3 + EVERYBODY):
            sender.sendto(b"", (f"{PREFIX}.{number}", PORT))


def expect_whole(sent, arrived):
    """Each number once, and in order."""
    assert {address: list(range(count)) for address, count in sent.items()} == arrived


@pytest.mark.parametrize("gateways", [((2, 2), ""), ((3, 3), ""), ((3, 2), "")], ids=["2-2", "3-3", "3-2"], indirect=True)
def test_one_tunnel_is_sealed_by_every_worker_and_every_flow_arrives_in_order(shared_sites, gateways):
    count = len(gateways[0].status()["workers"])
    use_until_whole(shared_sites, gateways[0], count)
    expect_whole(*streamed(shared_sites))
    tcp_both_ways(shared_sites.host_a, shared_sites.host_b, netns.HOST_B[0], 4 << 20)
    to_everybody(shared_sites)
    until(lambda: all(child["packets_out"] > 0 for child in children(gateways[0])), "packets by each CHILD_SA")
    assert len(children(gateways[0])) == count
    assert all(worker["packets_out"] > 0 for worker in gateways[0].status()["workers"])
    until(lambda: all(worker["packets_in"] > 0 for worker in gateways[1].status()["workers"]), "packets at each worker")
    for gateway in gateways:
        assert gateway.status()["drops"].get("handover_full", 0) == 0


@pytest.mark.parametrize("gateways", [((2, 2), ""), ((3, 3), "")], ids=["2-2", "3-3"], indirect=True)
def test_they_come_under_traffic_and_no_flow_is_reordered(shared_sites, gateways):
    expect_whole(*streamed(shared_sites))
    until(partial(of_all_workers, gateways[0], len(gateways[0].status()["workers"])), "a CHILD_SA for each worker", 60)


@pytest.mark.parametrize("gateways", [((3, 3), 'rekey_after = "1s"\nlifetime = "30s"')], ids=["3-3"], indirect=True)
def test_rekeys_of_all_of_them_lose_double_and_reorder_nothing(shared_sites, gateways):
    use_until_whole(shared_sites, gateways[0], 3)
    before = {child["spi_in"] for child in children(gateways[0])}
    expect_whole(*streamed(shared_sites))
    until(lambda: before.isdisjoint(child["spi_in"] for child in children(gateways[0])), "a rekey of each")


@pytest.mark.parametrize("gateways", [((2, 1), ""), ((1, 2), "")], ids=["2-1", "1-2"], indirect=True)
def test_a_peer_with_one_worker_has_one_child_sa(shared_sites, gateways):
    expect_whole(*streamed(shared_sites))
    assert [len(children(gateway)) for gateway in gateways] == [1, 1]
