"""Gateways in memory and daemons in network namespaces: one test runs on both, and both do the same.

The table of the scenarios is printed, and stands in build/rig-scenarios.txt.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipsec_dp.errors import ConfigError
from ipsec_dp.rig import AsyncGateway, Gateway, NatBox, NetnsNetwork, NetnsWire, Network, RigError, Wire
from ipsec_dp.rig.netns import Lab
from ipsec_dp.rig.packets import udp
from tests.netns import rig_runner
from tests.unit.rig_sites import site

HELLO, BACK = udp("10.1.0.5", "10.2.0.5", b"hello"), udp("10.2.0.5", "10.1.0.5", b"back")
BOTH = pytest.mark.parametrize("made", [Network, NetnsNetwork], ids=["memory", "netns"])
TABLE = Path(__file__).resolve().parents[2] / "build" / "rig-scenarios.txt"
ENOUGH = 60  # scenarios
SECONDS_IN_MEMORY = 5.0  # of the processor
AT_ONCE = 3  # groups, whose waits fall together


@BOTH
def test_what_a_gateway_is_asked(made):
    """The whole surface, one thing after the other."""
    with made() as network:
        b, a = network.gateway(site("b")), network.gateway(site("a"))
        a.wait("up")
        b.wait("up")
        a.inject(HELLO)
        b.wait("packet")
        b.inject(BACK)
        a.wait("packet")
        assert (b.received(), a.received()) == ([HELLO], [BACK])
        assert b.received() == [], "each is given once"
        (sa,) = a.sas()
        assert (sa.packets_out, sa.packets_in, sa.suite, sa.local_ts) == (1, 1, "aes256gcm16", ("10.1.0.0/16",))
        assert (b.sas()[0].spi_in, b.tunnel().state, a.status().gateway) == (sa.spi_out, "up", "a")
        assert (a.counters()["packets_in"], a.counters()["packets_out"]) == (1, 1)
        explained = a.explain("10.1.0.5", "10.2.0.5")
        assert (explained.verdict, explained.sa is not None and explained.sa.tunnel) == ("protect", "to-b")
        assert [line.count('"') for line in a.keylog().splitlines()] == [16, 16]
        assert HELLO not in a.capture()
        assert len(a.capture()) > 5 * 40
        a.rekey()
        b.wait("CHILD_SA rekeyed")
        a.wait("CHILD_SA rekeyed")
        a.wait(lambda: len(a.sas()) == len(b.sas()) == 1)
        assert a.sas()[0].spi_in != sa.spi_in
        assert [change.name for change in a.reload(site("a", start="respond")).changed] == ["to-b"]
        a.terminate()
        b.wait("IKE SA down")
        assert [str(event.kind) for event in b.events()] == ["IKE SA up", "CHILD_SA up", "CHILD_SA rekeyed", "IKE SA down"]
        assert "IKE_AUTH request " in a.story()
        assert re.search(r"-- IKE_SA_INIT request 0, (448|520) --", network.ladder()), "the daemon's defaults have ML-KEM besides"


@BOTH
def test_wires_that_are_cut_in_one_direction_and_mended(made):
    with made() as network:
        b, a = network.gateway(site("b")), network.gateway(site("a"))
        a.wait("up")
        network.wire.cut("b", "a")
        b.inject(BACK)
        a.inject(HELLO)
        b.wait("packet")
        network.wire.mend()
        b.inject(BACK)
        a.wait("packet")
        assert a.received() == [BACK]
        with pytest.raises(RigError, match="no end 'c'"):
            network.wire.cut("c")


@BOTH
def test_a_rig_that_is_used_wrongly_says_so(made):
    with made() as network:
        a = network.gateway(site("a", start="respond"))
        for wrong, ask in (
            ("there is no event 'upp'", lambda: a.wait("upp")),
            ("no tunnel 'to-c'; there are: to-b", lambda: a.wait("up", tunnel="to-c")),
            (r"no route of gateway a leads to 198\.51\.100\.1", lambda: a.inject(udp("10.1.0.5", "198.51.100.1"))),
            ("no IP packet", lambda: a.inject(b"hello")),
            ("two ends of the name 'a'", lambda: network.gateway(site("a"))),
            ("there is no CHILD_SA|no IKE SA|nothing to rekey|down|not up", a.rekey),
            ("waits? .*IKE SA up|waited 0.2 s for the event 'IKE SA up' in vain", lambda: a.wait("IKE SA up", 0.2)),
        ):
            with pytest.raises(RigError, match=wrong):
                ask()
        with pytest.raises(ConfigError, match="unknown table"):
            a.reload(site("a") + "\n[gatewau]\n")
        with pytest.raises(ValueError, match="does not go back"):
            network.clock.advance(-1)
        a.close()
        a.close()
        for ask in (a.sas, a.received, a.initiate, a.status, a.keylog, lambda: a.inject(HELLO), lambda: a.wait("up")):
            with pytest.raises(RigError, match="gateway a is closed"):
                ask()


def test_a_gateway_in_a_namespace_of_ones_own():
    with Lab() as lab:
        namespace = lab.namespace("alone", forwarding=True)
        namespace.ip("link add wan type veth peer name far", "address add 192.0.2.1/24 dev wan", "link set wan up")
        with Gateway(site("a", start="respond"), netns=namespace) as a:
            assert a.tunnel().state == "waiting"
        with pytest.raises(RigError, match="wire: of gateways in memory"):
            Gateway(site("a"), netns=namespace, wire=Wire())


def test_what_is_asked_in_a_namespace_can_be_awaited():
    """The caller's event loop goes on meanwhile."""

    async def asked(namespace):
        async with AsyncGateway(site("a", start="respond"), netns=namespace) as a:
            asking, turns = asyncio.create_task(a.advance(0.2)), 0
            while not asking.done():
                turns += 1
                await asyncio.sleep(0.001)
            await asking
            return turns, (await a.tunnel()).state, (await a.status()).gateway, await a.received()

    with Lab() as lab:
        namespace = lab.namespace("awaited", forwarding=True)
        namespace.ip("link add wan type veth peer name far", "address add 192.0.2.1/24 dev wan", "link set wan up")
        turns, *answers = asyncio.run(asked(namespace))
    assert turns > 3, "one that stands still has two"
    assert answers == ["waiting", "a", []]


def test_a_process_that_ends_is_told_with_its_log():
    with NetnsNetwork() as network:
        a = network.gateway(site("a"))
        (process,) = a.namespace.processes
        process.kill()
        process.wait()
        with pytest.raises(RigError, match="its process has ended"):
            a.wait("up")
        with pytest.raises(RigError, match=r"gateway did not start|cannot"):
            network.gateway(site("b").replace("ipsec0", "wan"))


def test_a_nat_in_the_wire_is_one():
    with NetnsNetwork(wire=NetnsWire(nat=NatBox("a", "203.0.113.1"))) as network:
        network.gateway(site("b", remote="any"))
        a = network.gateway(site("a"))
        a.wait("up")
        assert (a.tunnel().encapsulation, a.tunnel().nat) == ("udp", "local")


NARROWER = (("a", "b"), NetnsWire(mtu=1300), "of the wire that joins all")  # which a router cannot do for two of them


@pytest.mark.parametrize(
    ("made", "wire", "unfit"), [(Network, Wire, ()), (NetnsNetwork, NetnsWire, (NARROWER,))], ids=["memory", "netns"]
)
def test_two_of_them_have_a_wire_of_their_own(made, wire, unfit):
    """What joins all carries nothing here, so that only theirs can."""
    with made(wire=wire(loss=1.0)) as network:
        b, a = network.gateway(site("b")), network.gateway(site("a", start="respond"))
        for ends, fit, why in ((("a", "none"), wire(), "no gateway"), (("a", "a"), wire(), "two ends"), *unfit):
            with pytest.raises(RigError, match=why):
                network.between(*ends, fit)
        own = network.between("b", "a", wire())
        a.initiate()
        assert network.jump() <= network.clock.now()
        a.wait("up")
        a.inject(HELLO)
        b.wait("packet")
        own.cut("a", "b")
        b.inject(BACK)
        a.wait("packet")
        a.inject(HELLO)
        network.advance(0.2)
        assert b.received() == [HELLO], "cut in one direction"


def test_both_places_do_the_same(capsys):
    files = rig_runner.authorities()
    memory = rig_runner.outcomes("memory", files)
    netns = rig_runner.outcomes("netns", files, at_once=AT_ONCE)
    text = rig_runner.table(memory, netns)
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(text + "\n")
    with capsys.disabled():
        print(f"\n{text}")
    assert len(memory) >= ENOUGH
    assert {name: each.stuck or each.ends for name, each in netns.items() if not each.as_meant} == {}
    assert {name: netns[name].compared for name, each in memory.items() if each.compared != netns[name].compared} == {}


@pytest.mark.measure
def test_in_memory_all_of_them_take_seconds():
    files = rig_runner.authorities()
    began = time.process_time()
    assert len(rig_runner.outcomes("memory", files)) >= ENOUGH
    assert time.process_time() - began < SECONDS_IN_MEMORY


PLUGIN_TESTS = """
import pytest
from ipsec_dp.rig.packets import udp

HELLO = udp("10.1.0.5", "10.2.0.5", b"hello")


def carries(a, b):
    a.inject(HELLO)
    b.wait("packet")
    assert b.received() == [HELLO]


def test_of_either(ipsec_pair, ipsec_place):
    carries(*ipsec_pair)
    assert hasattr(ipsec_pair.a, "namespace") == (ipsec_place == "netns")


@pytest.mark.ipsec(where="memory")
def test_of_memory(ipsec_pair, ipsec_clock):
    ipsec_clock.advance(3600)
    carries(*ipsec_pair)


@pytest.mark.ipsec(wire={"mtu": 1400})
def test_of_namespaces(ipsec_netns):
    carries(*ipsec_netns)
    assert ipsec_netns.b.received() == [HELLO]
"""


def test_the_plugin_gives_a_pair_in_either_place(tmp_path):
    """The last one fails, and shows what daemons did as it shows it of gateways in memory."""
    (tmp_path / "test_mine.py").write_text(PLUGIN_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "ipsec_dp.rig.pytest_plugin", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(TABLE.parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [*command, "--ipsec-in=both", "-rA"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    outcomes = set(re.findall(r"^(PASSED|FAILED) test_mine\.py::(\S+)", done.stdout, re.MULTILINE))
    passed = {"test_of_either[memory]", "test_of_either[netns]", "test_of_memory"}
    assert outcomes == {*(("PASSED", each) for each in passed), ("FAILED", "test_of_namespaces")}, done.stdout + done.stderr
    assert re.search(r"ipsec a: events -+\n.*IKE SA up", done.stdout)
    assert re.search(r"packets_in: 1", done.stdout)
    assert "-- IKE_AUTH request " in done.stdout.split("ipsec: messages")[1]
