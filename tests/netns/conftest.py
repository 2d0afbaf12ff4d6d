"""Fixtures of the tests in network namespaces, and the check that none of them leaves anything in the kernel."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, GatewayProcess, ManualPair
from tests.netns import harness
from tests.netns.succession import upgraded
from tests.netns.under_attack import Attacked, took_up

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def no_stale_namespaces():
    """Takes away what a killed run left, so that it cannot be mistaken for ours."""
    netns.sweep()

    yield
    assert netns.owned() == []


@pytest.fixture(autouse=True)
def nothing_left():
    """After each test: namespaces, and the host's own links, addresses, routes, rules and nftables as before."""
    namespaces, before = netns.owned(), harness.picture()
    yield
    assert netns.owned() == namespaces
    assert harness.difference(before, harness.picture()) == []


@pytest.fixture(scope="module")
def shared_sites():
    """The same topology for a whole module; what a test changes in it, it takes back."""
    with netns.Lab() as made:
        yield netns.two_sites(made)


@pytest.fixture
def lab(nothing_left):  # the check comes after the lab is closed
    with netns.Lab() as made:
        yield made


@pytest.fixture
def sites(lab):
    """hostA - gwA = gwB - hostB; see `ipsec_dp.rig.netns.TwoSites`."""
    return netns.two_sites(lab)


@pytest.fixture
def sites_opened_again(shared_sites):
    """What gateways of the test leave closed goes after it."""
    yield shared_sites
    for namespace, name in ((shared_sites.gw_a, "gwA"), (shared_sites.gw_b, "gwB")):
        harness.open_guard(namespace, name)


@pytest.fixture
def pair(sites_opened_again, tmp_path):
    """Two gateways with manual keys, not started; what runs of them is killed after the test."""
    made = GatewayPair(sites_opened_again, tmp_path, ManualPair())
    yield made
    made.a.kill()
    made.b.kill()


@pytest.fixture
def in_succession(sites_opened_again, tmp_path):
    """Brings gwA and gwB up, of which gwA is to go on in other processes: in_succession(IkePair(), *program)."""
    with contextlib.ExitStack() as stack:
        yield lambda pair, *program: stack.enter_context(upgraded(sites_opened_again, tmp_path, pair, *program))


@pytest.fixture
def faulty():
    """A program that takes a gateway's place with a fault, in a directory that is root's alone."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="upgrade-faults-", dir=build) as directory:
        Path(directory).chmod(0o755)
        path = Path(directory, "ipsec-dp")

        def faulty(fault):
            path.write_text(
                f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
                f"from tests.netns.upgrade_faults import main\nsys.exit(main({fault!r}))\n"
            )
            path.chmod(0o755)
            return str(path)

        yield faulty


@pytest.fixture
def attacked(lab, sites, tmp_path):
    """Starts gwA and gwB with tunnels that a test says, and lets strangers in; unless it says otherwise, gwA's is up then."""
    running: list[GatewayProcess] = []

    def attacked(*, up=True, **tunnels):
        found = Attacked.started(lab, sites, tmp_path, running, **tunnels)
        if up:
            took_up(found)
        return found

    yield attacked
    for gateway in running:
        assert gateway.terminate() == 0
        assert "Traceback" not in gateway.text()
        assert "could not be handled" not in gateway.text()
