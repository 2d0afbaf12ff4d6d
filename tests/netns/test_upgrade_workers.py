"""A gateway with several workers goes on in other processes, under numbered flows both ways: none loses a packet, gets one twice or
out of its order, and each worker goes on with its own.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import contextlib
from functools import partial

import pytest

from ipsec_dp.errors import ControlError
from ipsec_dp.rig import netns
from tests.netns import test_resources, test_workers
from tests.netns.from_texts import gateways_of, negotiate
from tests.netns.numbered import bound, flowing
from tests.netns.succession import Succession
from tests.netns.test_resources import children, of_all_workers, use_until_whole
from tests.netns.traffic import until

UPGRADES = 3
FLOWS = 6  # each between addresses of its own: by addresses a flow finds its worker
EVERYBODY = range(3, 131)  # so many addresses that no worker is without a flow
PORT = 7100
WINDOW = 50  # packets of one stream on their way at the most
MORE = 100  # packets of each flow between two upgrades
LATE_S = 60.0


@pytest.fixture
def ends(sites_opened_again):
    """Addresses of hostA and of hostB, a pair for each flow."""
    hosts = ((sites_opened_again.host_a, netns.HOST_A[0]), (sites_opened_again.host_b, netns.HOST_B[0]))
    named = [[f"{host.rsplit('.', 1)[0]}.{200 + number}" for number in range(FLOWS)] for _, host in hosts]
    for (namespace, _), addresses in zip(hosts, named, strict=True):
        for address in addresses:
            namespace.run("ip", "address", "add", f"{address}/32", "dev", "eth0")
    yield list(zip(*named, strict=True))
    for (namespace, _), addresses in zip(hosts, named, strict=True):
        for address in addresses:
            namespace.run("ip", "address", "del", f"{address}/32", "dev", "eth0")


@contextlib.contextmanager
def running(sites, directory, texts, keys):
    """gwA, which is to go on in other processes, and gwB; `texts`: what their files say."""
    a, b = made = gateways_of(sites, directory, texts, keys)
    try:
        with Succession(a) as upgraded:
            negotiate(made)
            yield upgraded
            assert b.terminate() == 0
    finally:
        a.kill()
        b.kill()
        print(a.text())
    assert "Traceback" not in a.text()


def more(*streams):
    """A while of each flow, carried by whoever has the tunnels now."""
    enough = [each.least + MORE for each in streams]
    until(lambda: all(each.least > least for each, least in zip(streams, enough, strict=True)), "packets of each flow", LATE_S)


def to_everybody(near, far):
    """A packet to each of many addresses beside `far`."""
    with near[0].call(partial(bound, (near[1], 0))) as sender:
        for number in EVERYBODY:
            sender.sendto(b"", (f"{far[1].rpartition('.')[0]}.{number}", PORT))


def counted(gateway):
    """Packets of each worker, in each direction."""
    return [worker[f"packets_{way}"] for worker in gateway.status()["workers"] for way in ("in", "out")]


def upgrade(upgraded, ike_sas):
    """Each worker goes on counting where it was."""
    before = counted(upgraded.a)
    answer = upgraded.upgrade()
    assert (answer["ike_sas"], answer["left_out"]) == (ike_sas, [])
    upgraded.answers()
    assert all(now >= then for now, then in zip(counted(upgraded.a), before, strict=True))
    return answer["gap_ms"]


def carried(gateway):
    """By the inbound SPI of each CHILD_SA, the packets that went by it in each direction."""
    return {child["spi_in"]: (child["packets_in"], child["packets_out"]) for child in children(gateway)}


def workers_of(gateway):
    """By the inbound SPI of each CHILD_SA, its worker."""
    return {child["spi_in"]: child["worker"] for tunnel in gateway.status()["tunnels"] for child in tunnel["children"]}


def each_carries(gateway, before):
    now = carried(gateway)
    return all(packets > then for spi in before for packets, then in zip(now[spi], before[spi], strict=True))


@pytest.mark.parametrize("workers", [2, 3])
def test_a_child_sa_for_each_worker_goes_on_with_its_flows(sites_opened_again, tmp_path, ends, workers):
    sites = sites_opened_again
    hosts = (sites.host_a, netns.HOST_A[0]), (sites.host_b, netns.HOST_B[0])
    texts = [test_resources.configuration(side, workers, "") for side in "ab"]
    with running(sites, tmp_path, texts, test_resources.KEYS) as upgraded:
        use_until_whole(sites, upgraded.a, workers)
        there = {near: (near, (far, PORT)) for near, far in ends}
        back = {far: (far, (near, PORT)) for near, far in ends}
        with (
            flowing(sites.host_a, sites.host_b, there, window=WINDOW) as out,
            flowing(sites.host_b, sites.host_a, back, window=WINDOW) as home,
        ):
            more(out, home)
            owners, gaps = workers_of(upgraded.a), []
            for _ in range(UPGRADES):
                gaps.append(upgrade(upgraded, 1))
                assert workers_of(upgraded.a) == owners
                before = carried(upgraded.a)
                to_everybody(*hosts)
                to_everybody(*reversed(hosts))
                until(partial(each_carries, upgraded.a, before), "packets by each CHILD_SA, both ways", LATE_S)
                more(out, home)
            upgraded.a.ask("rekey", name="t")
            until(lambda: owners.keys().isdisjoint(carried(upgraded.a)), "a rekey of each", LATE_S)
            until(lambda: len(children(upgraded.a)) == workers, "the end of those before", LATE_S)
            assert of_all_workers(upgraded.a, workers)
            more(out, home)
        print("gaps in ms:", gaps)
        for each in (out, home):
            each.expect_whole()
        assert upgraded.a.status()["drops"].get("handover_full", 0) == 0


@pytest.mark.parametrize("encapsulation", ["udp", "esp"])
def test_tunnels_of_several_workers_go_on(sites_opened_again, tmp_path, encapsulation):
    """Three tunnels that share an interface and a peer: what comes for one of them comes to workers that do not own it. They keep
    their workers, though a gateway that starts with the file of now would give them others. Another number of them is refused."""
    sites = sites_opened_again
    texts = [test_workers.configuration(side, 3, encapsulation, "all") for side in "ab"]
    with running(sites, tmp_path, texts, test_workers.KEYS) as upgraded:
        there = {port: (netns.HOST_A[0], (netns.HOST_B[0], port)) for port in test_workers.FLOWS}
        head, first, second, *rest = texts[0].split("[[tunnel]]\n")
        now = "[[tunnel]]\n".join([head, second, first, *rest])
        upgraded.a.config.write_text(now)
        upgraded.a.ask("reload")
        with flowing(sites.host_a, sites.host_b, there, window=WINDOW) as out:
            more(out)
            upgraded.a.config.write_text(now.replace("workers = 3", "workers = 2"))
            with pytest.raises(ControlError, match=r"goes on as before: .*workers.*cannot be changed by a reload"):
                upgraded.ask()
            upgraded.a.config.write_text(now)
            for _ in range(2):
                owners = workers_of(upgraded.a)
                upgrade(upgraded, 3)
                assert owners.items() <= workers_of(upgraded.a).items()
                more(out)
        out.expect_whole()
        assert all(worker["packets_out"] > 0 for worker in upgraded.a.status()["workers"])
