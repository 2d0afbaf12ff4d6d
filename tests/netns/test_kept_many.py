"""Ten thousand tunnels: what others take away is closed by a small table first; and what it costs to watch when nothing happens.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

All of them share an interface and have peers that never call; hostB's network is among what is protected.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import contextmanager
from ipaddress import ip_network
from itertools import pairwise

import pytest

from ipsec_dp.host.bypass import HeldBypass
from ipsec_dp.host.guard import GuardRule
from ipsec_dp.host.guard_table import Guard
from ipsec_dp.host.routes import Route, RouteTable
from ipsec_dp.host.zones import Zones
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import SelectorPair
from ipsec_dp.network.kernel_watch import LOOK_S, KernelWatch
from ipsec_dp.rig.process import GatewayPair, GatewayProcess, ManualPair
from ipsec_dp.util.clock import SystemClock
from ipsec_dp.util.conditions import Conditions
from tests.netns import harness
from tests.netns.foreign import TABLE, Crossing, both_ways, delete_everything, leaks_without_us, nft
from tests.netns.test_many_tunnels import real, tunnel
from tests.netns.traffic import until
from tests.netns.used import run_s

COUNT = 10_000
CLOSED_MS = 250
UP_S, STOP_S = 300.0, 60.0
WATCHED_S = 30.0  # three looks
CPU_PART_MAX = 0.002  # of a core
LOOK_MOST_S, SLICE_MOST_S = 0.050, 0.005
WITHOUT_LOOKS = """
import sys
from ipsec_dp.cli import main
from ipsec_dp.network import kernel_watch
from ipsec_dp.services import device_watch
kernel_watch.LOOK_S = device_watch.SWEEP_S = 1e6
sys.exit(main())
"""
CLOSING = "ipsec_dp-closing_gwA"

pytestmark = [pytest.mark.slow, pytest.mark.alone("measures time"), pytest.mark.timeout(900)]


@contextmanager
def running(sites, directory, *program):
    """A gateway with so many tunnels, as a program starts it."""
    (directory / "all.psk").touch(mode=0o600)
    (directory / "all.psk").write_text("one secret for all, long enough")
    path = directory / "gwA.toml"
    path.write_text(real("a") + "".join(tunnel(f"t{n}", 2 * n, interface="ipsec0") for n in range(COUNT)))
    gateway = GatewayProcess(sites.gw_a, path, *program)
    gateway.start()
    gateway.wait_up(UP_S)
    yield gateway
    assert gateway.process is not None
    gateway.process.terminate()
    assert gateway.wait(STOP_S) == 0, gateway.text()


@pytest.fixture(scope="module")
def large(shared_sites, tmp_path_factory):
    with running(shared_sites, tmp_path_factory.mktemp("large")) as gateway:
        yield gateway


def idle_part(gateway):
    """The part of a core that a gateway takes, by the scheduler's own count."""
    before, begun = run_s(gateway), time.monotonic()
    time.sleep(WATCHED_S)
    return (run_s(gateway) - before) / (time.monotonic() - begun)


@pytest.mark.measure
def test_ten_thousand_tunnels_are_watched_for_next_to_nothing(shared_sites, tmp_path):
    """The whole gateway, beside one that never looks."""
    parts = []
    for program in ((sys.executable, "-c", WITHOUT_LOOKS), GatewayProcess.program):
        with running(shared_sites, tmp_path, program) as gateway:
            parts.append(idle_part(gateway))
    without, with_looks = parts
    print(f"\n{COUNT} tunnels: {100 * with_looks:.3f} % of a core, without looks {100 * without:.3f} %")
    assert with_looks - without <= CPU_PART_MAX


@pytest.mark.parametrize("everything", [False, True], ids=["flush ruleset", "everything"])
def test_a_small_table_closes_first(shared_sites, large, tmp_path, everything):
    sites = shared_sites
    with both_ways(sites), Crossing(sites, tmp_path, "large") as crossing:
        before = large.status()["restored"]["guard"]
        since = time.time_ns()
        if everything:
            delete_everything(sites.gw_a)
        else:
            nft(sites.gw_a, "flush ruleset\n")
            until(lambda: CLOSING in sites.gw_a.run("nft", "list", "tables").stdout, "the small table")
        until(lambda: large.status()["restored"]["guard"] > before, "the guard", 30)
        clear = crossing.end()
    tables = sites.gw_a.run("nft", "list", "tables").stdout
    assert TABLE in tables
    assert CLOSING not in tables, "it goes when the guard is there"
    mine = [when for when, kind in clear.rows if when >= since and kind.endswith("4")]  # IPv6 is in no selector here
    open_ms = (max(mine) - min(mine)) / 1e6 if mine else 0.0
    print(f"\n{COUNT} tunnels: in clear for {open_ms:.0f} ms")
    assert {"in4", "out4", "out6"} <= clear.inner
    assert open_ms <= CLOSED_MS
    until(lambda: "WARNING the guard" in large.text(), "it is in the log")


async def looked_at(count):
    """CPU time of one look at so many tunnels when nothing changed, and the most of it between two turns of the loop, in s."""
    prefixes = [ip_network(f"10.{number >> 7}.{2 * number & 255}.0/24") for number in range(count)]
    local = AddressRange.of("192.168.0.0/24")
    guard, table, clock = Guard("gwA"), RouteTable("gwA"), SystemClock()
    await guard.apply([GuardRule(SelectorPair(local, AddressRange.of(each))) for each in prefixes], [(7, "ipsec0")])
    await table.apply(prefixes, [Route(each, 1) for each in prefixes])
    watch = KernelWatch(guard, Zones("gwA"), table.held, HeldBypass("gwA"), Conditions(clock), clock)
    await watch.look()  # the first one reads the rules
    turns: list[float] = []

    async def turn() -> None:
        while True:
            turns.append(time.thread_time())
            await asyncio.sleep(0)

    beside = asyncio.get_running_loop().create_task(turn())
    await asyncio.sleep(0)
    began = time.process_time()
    await watch.look()
    used = time.process_time() - began
    beside.cancel()
    assert watch.restored == {"guard": 0, "zones": 0, "rules": 0, "routes": 0}
    return used, max(later - earlier for earlier, later in pairwise(turns))


@pytest.mark.measure
@pytest.mark.parametrize("count", [1, COUNT])
def test_a_look_costs_next_to_nothing_and_holds_nobody_up(sites, count):
    used, longest = harness.run(sites.gw_a, lambda: looked_at(count))
    harness.open_guard(sites.gw_a, "gwA")
    print(f"\n{count} tunnels: {1000 * used:.1f} ms each {LOOK_S:g} s, {1000 * longest:.1f} ms at once")
    assert used <= LOOK_MOST_S
    assert used / LOOK_S <= CPU_PART_MAX
    assert longest <= SLICE_MOST_S


@pytest.mark.measure
def test_one_tunnel_is_watched_for_next_to_nothing(sites, tmp_path):
    with both_ways(sites):
        assert leaks_without_us(sites, tmp_path)
    with GatewayPair(sites, tmp_path, ManualPair()) as pair:
        used = idle_part(pair.a)
    print(f"\none tunnel: {100 * used:.3f} % of a core")
    assert used < CPU_PART_MAX
    harness.open_guard(sites.gw_a, "gwA")
