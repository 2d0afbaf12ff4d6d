"""Fail closed while a gateway runs and is worked on: under a stream, by capture, with the control that the capture can see a leak.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

The start, its failures, kill -9 and keep_closed are in test_gateway_fail_closed.py, fail-over in test_monitor.py.
"""

from __future__ import annotations

import signal
import sys
import time

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, IkePair, ManualPair
from tests.netns import harness
from tests.netns.leaks import guarded, leaks_without_us, watched
from tests.netns.traffic import stream, until, until_sent


@pytest.fixture
def sites(shared_sites):
    yield shared_sites
    for namespace, name in ((shared_sites.gw_a, "gwA"), (shared_sites.gw_b, "gwB")):
        harness.open_guard(namespace, name)


@pytest.fixture
def streaming(sites):
    with stream(sites.host_a, harness.BOTH):
        yield


def ended(pair):
    pair.a.kill()
    pair.b.kill()


@pytest.fixture
def pair(sites, tmp_path):
    made = GatewayPair(sites, tmp_path, ManualPair())
    yield made
    ended(made)


@pytest.fixture
def negotiated(sites, tmp_path):
    made = GatewayPair(sites, tmp_path, IkePair())
    yield made
    ended(made)


def sealed(gateway):
    children = gateway.status()["tunnels"][0]["children"]
    return sum(child["packets_out"] for child in children)


def flows(gateway):
    before = sealed(gateway)
    until(lambda: not before <= sealed(gateway) <= before + 100, "traffic in the tunnel")


def test_reload(sites, pair, streaming, tmp_path):
    """One that takes a proxy ID away, one that brings it back, and one that is refused."""
    good = pair.a.config.read_text()
    less = good.replace(f'  [[tunnel.proxy_id]]\n  local = "{netns.SITE_A_NETS[1]}"\n  remote = "{netns.SITE_B_NETS[1]}"\n', "")
    assert less != good
    assert leaks_without_us(sites, tmp_path)
    pair.start()
    with watched(sites, tmp_path) as crossed:
        flows(pair.a)
        since = time.time_ns()
        pair.a.config.write_text(less)
        pair.a.ask("reload")
        assert crossed(since) <= {"udp6", "tcp6"}, "only what is protected no longer"
    with watched(sites, tmp_path, "back") as crossed:
        pair.a.config.write_text(good)
        pair.a.ask("reload")
        since = time.time_ns()
        pair.a.config.write_text("nonsense = 1\n" + good)
        done = sites.gw_a.run(sys.executable, "-m", "ipsec_dp", "reload", "--control", str(pair.a.control), check=False)
        assert done.returncode != 0
        flows(pair.a)
        assert crossed(since) == set()


def test_renegotiation(sites, negotiated, streaming, tmp_path):
    """New keys for both SAs, the tunnel deleted while traffic comes, and called again."""
    assert leaks_without_us(sites, tmp_path)
    negotiated.start()
    negotiated.a.wait_negotiated()
    with watched(sites, tmp_path) as crossed:
        since = time.time_ns()
        flows(negotiated.a)
        for ike in (False, True):
            negotiated.a.ask("rekey", name="a-to-b", ike=ike)
            flows(negotiated.a)
        negotiated.a.ask("terminate", name="a-to-b")
        until(lambda: not negotiated.a.status()["tunnels"][0]["children"], "no SA")
        negotiated.a.ask("initiate", name="a-to-b")
        negotiated.a.wait_negotiated()
        flows(negotiated.a)
        assert crossed(since) == set()


@pytest.mark.parametrize("part", ["guard", "routes"])
def test_each_part_holds_alone_when_the_routes_into_the_tunnel_are_withdrawn(sites, pair, streaming, tmp_path, part):
    """By somebody with `ip route`, who takes the other part away as well, of a gateway that stands still and restores neither."""
    assert leaks_without_us(sites, tmp_path)
    pair.start()
    with watched(sites, tmp_path) as crossed:
        flows(pair.a)
        pair.a.process.send_signal(signal.SIGSTOP)
        since = time.time_ns()
        if part == "guard":
            for version in "46":
                sites.gw_a.run("ip", f"-{version}", "route", "flush", "table", "all", "proto", "229")
        else:
            sites.gw_a.run("nft", "delete", "table", "inet", "ipsec_dp_gwA")
            for version in "46":
                sites.gw_a.run("ip", f"-{version}", "route", "flush", "table", "all", "proto", "229", "dev", "ipsec0")
        until_sent(sites.host_a, 200)  # a hundred packets of each kind that find no tunnel
        assert crossed(since) == set()


WITHOUT_NFT = """
import shutil, sys
from pathlib import Path
from ipsec_dp.gateway import daemon
from ipsec_dp.config import load
which = shutil.which
shutil.which = lambda name, *rest, **named: None if name == "nft" else which(name, *rest, **named)
sys.exit(daemon.run(load(Path(sys.argv[1])), Path(sys.argv[3])))
"""


def test_without_nft_a_failed_start_leaves_the_unreachable_routes(sites, pair, streaming, tmp_path):
    assert leaks_without_us(sites, tmp_path)
    done = sites.gw_a.run(sys.executable, "-c", WITHOUT_NFT, str(pair.a.config), "--control", str(pair.a.control), check=False)
    assert done.returncode == 1
    assert "nft is not installed" in done.stderr
    assert not guarded(sites)
    with watched(sites, tmp_path) as crossed:
        assert crossed() == set()


GUARD_STAYS = """
import sys
from pathlib import Path
from ipsec_dp.gateway import daemon
from ipsec_dp.config import load
from ipsec_dp.host import HostError, guard_table
async def refused(self):
    raise HostError("nft -f -: the kernel refuses")
guard_table.Guard.remove = refused
sys.exit(daemon.run(load(Path(sys.argv[1])), Path(sys.argv[3])))
"""


def test_down_says_what_it_could_not_take_away_and_fails(sites, pair):
    log = pair.a.log.open("ab")
    arguments = (sys.executable, "-c", GUARD_STAYS, str(pair.a.config), "--control", str(pair.a.control))
    pair.a.process = sites.gw_a.spawn(*arguments, stdout=log, stderr=log)
    pair.a.wait_up()
    done = sites.gw_a.run(sys.executable, "-m", "ipsec_dp", "down", "--control", str(pair.a.control), check=False)
    assert done.returncode == 1
    assert "stopped, but not everything is taken away: nft -f -: the kernel refuses" in done.stderr
    assert pair.a.wait(10) == 1
    assert guarded(sites)
