"""A gateway goes on in another process, several times in a row, under streams: none lost, none twice, and the peer notices nothing.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest

from ipsec_dp.errors import ControlError, NoDaemonError
from ipsec_dp.gateway import control
from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, IkePair, ManualPair
from tests.netns import harness, upgrade_faults
from tests.netns.leaks import guarded, leaks_without_us, watched
from tests.netns.numbered import numbered
from tests.netns.traffic import stream, tcp_both_ways, until

ROOT = Path(__file__).parents[2]
UPGRADES = 5
PATIENCE_S = 60.0
FEW = ("is older", "refuses its configuration", "is killed before it is ready")
PAIRS = {
    "IKEv2, UDP": IkePair(encapsulation="udp"),
    "IKEv2, IP protocol 50": IkePair(encapsulation="esp"),
    "IKEv1": IkePair(encapsulation="udp", ike=('version = "1"',) * 2),
    "manual keys": ManualPair(),
}
# The program is started by the gateway's own user, who has to reach it: in a mount namespace of its own, where this interpreter
# lies in a home that others may not enter, that home is another one with nothing but the interpreter.
HOME, KEPT = Path("/root"), Path(sys.base_prefix)


def reachable(program):
    """`program`, started where everybody may enter the directories above the interpreter."""
    if not KEPT.is_relative_to(HOME):
        return program
    hidden = KEPT.relative_to(HOME).parts[0]
    script = (
        f"set -e; d=$(mktemp -d); mount --bind {HOME}/{hidden} $d; mount -t tmpfs -o mode=755,size=1m none {HOME}; "
        f'mkdir {HOME}/{hidden}; mount --bind $d {HOME}/{hidden}; umount $d; rmdir $d; exec "$@"'
    )
    return ("sh", "-c", script, "sh", *program)


def ended(process):
    """Whether nothing of it is left, or nothing but its status."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_ended(process):
    until(lambda: ended(process), "the end of a process")


def wait_told(upgraded, times, fault):
    until(lambda: upgraded.a.text().count("not upgraded") == times, f"the event, where it {fault}")


def up_with_others(tunnel, spis):
    now = {child["spi_in"] for child in tunnel["children"]}
    return tunnel["state"] == "up" and now and now.isdisjoint(spis)


class Upgraded(GatewayPair):
    """gwA is the one that is upgraded; whoever goes on is ended after the test, too."""

    def __init__(self, sites, directory, pair):
        super().__init__(sites, directory, pair)
        self.a.program = reachable(self.a.program)
        self.processes = []

    def ask(self, **request):
        return control.request(self.a.control, {"verb": "upgrade", **request}, PATIENCE_S)

    def upgrade(self, **request):
        answer = self.ask(**request)
        if self.processes:
            wait_ended(self.processes[-1])
        else:
            assert self.a.wait(10) == 0
        self.processes.append(answer["process"])
        return answer

    def answers(self):
        """The next process is done, and is asked."""

        def answered():
            try:
                return self.a.status()
            except (ControlError, NoDaemonError):
                return None

        until(answered, "an answer of the next process")


def flows(*streams):
    """A while of each, carried by whoever has the tunnel now."""
    enough = [len(each.arrived) + 300 for each in streams]
    until(lambda: all(len(each.arrived) > least for each, least in zip(streams, enough, strict=True)), "packets")


@pytest.fixture
def sites(sites_opened_again):
    return sites_opened_again


@pytest.fixture
def upgrading(sites, tmp_path):
    """Starts gwA and gwB; whoever has become gwA ends after the test."""
    running = []

    def upgrading(pair, *program):
        made = Upgraded(sites, tmp_path, pair)
        if program:
            made.a.program = reachable(program)
        running.append(made)
        made.start()
        until(lambda: made.a.status()["tunnels"][0]["state"] == "up", "the tunnel")
        return made

    yield upgrading
    for made in running:
        if made.processes and not ended(made.processes[-1]):
            made.a.ask("down")
            wait_ended(made.processes[-1])
        made.a.kill()
        made.b.kill()
        print(made.a.text())
        assert "Traceback" not in made.a.text()


@pytest.fixture
def faulty():
    """A program with a fault, in a directory that is root's alone."""
    directory = ROOT / "build" / "upgrade-faults"

    def faulty(fault):
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "ipsec-dp"
        path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            f"from tests.netns.upgrade_faults import main\nsys.exit(main({fault!r}))\n"
        )
        path.chmod(0o755)
        return str(path)

    yield faulty
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_no_packet_is_lost_and_none_comes_twice(sites, upgrading, pair):
    upgraded, gaps = upgrading(pair), []
    before = upgraded.a.status()
    counts = int(before["tunnels"][0]["ike"] is not None), len(before["tunnels"][0]["children"])
    with (
        numbered(sites.host_a, sites.host_b, netns.HOST_B[0], pause_s=0.001) as there,
        numbered(sites.host_b, sites.host_a, netns.HOST_A[0], pause_s=0.001) as back,
    ):
        until(lambda: there.arrived and back.arrived, "both streams")
        for _ in range(UPGRADES):
            answer = upgraded.upgrade()
            assert (answer["ike_sas"], answer["child_sas"], answer["left_out"]) == (*counts, [])
            gaps.append(answer["gap_ms"])
            upgraded.answers()
            flows(there, back)
    print("gaps in ms:", gaps)
    for each in (there, back):
        assert (each.lost(), each.repeated) == ([], 0)
    after = upgraded.a.status()
    assert (before["upgraded_at"], after["upgraded_at"] is not None) == (None, True)
    assert after["traffic"]["packets_out"] >= len(there.arrived)
    assert after["tunnels"][0]["children"][0]["spi_in"] == before["tunnels"][0]["children"][0]["spi_in"]
    tcp_both_ways(sites.host_a, sites.host_b, netns.HOST_B[0])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(FEW, id="some"),
        pytest.param(tuple(upgrade_faults.KILLED), id="killed", marks=pytest.mark.slow),
        pytest.param(tuple(upgrade_faults.HUNG), id="hung", marks=pytest.mark.slow),
        pytest.param(
            tuple(sorted(upgrade_faults.BEFORE.keys() - FEW - upgrade_faults.POINTED)), id="the others", marks=pytest.mark.slow
        ),
    ],
)
def test_whatever_becomes_of_a_successor_that_is_not_ready_the_process_goes_on(sites, upgrading, faulty, faults):
    """With one event that says why; an upgrade that does succeed comes after all that."""
    upgraded = upgrading(PAIRS["IKEv2, UDP"], sys.executable, "-m", "tests.netns.upgrade_faults", "impatient", "--")
    with (
        numbered(sites.host_a, sites.host_b, netns.HOST_B[0], pause_s=0.001) as there,
        numbered(sites.host_b, sites.host_a, netns.HOST_A[0], pause_s=0.001) as back,
    ):
        until(lambda: there.arrived and back.arrived, "both streams")
        for told, fault in enumerate(faults, 1):
            with pytest.raises(ControlError, match="not upgraded, and everything goes on as before"):
                upgraded.ask(program=faulty(fault))
            wait_told(upgraded, told, fault)
            flows(there, back)
        upgraded.upgrade()
        upgraded.answers()
        flows(there, back)
    for each in (there, back):
        assert (each.lost(), each.repeated) == ([], 0)


@pytest.mark.parametrize("fault", upgrade_faults.ALONE)
def test_a_successor_without_keys_or_ike_negotiates_anew_and_nothing_leaves_in_the_clear(sites, upgrading, faulty, tmp_path, fault):
    with stream(sites.host_a, harness.BOTH):
        assert leaks_without_us(sites, tmp_path)
        upgraded = upgrading(PAIRS["IKEv2, UDP"])
        before = {child["spi_in"] for child in upgraded.a.status()["tunnels"][0]["children"]}
        with watched(sites, tmp_path) as crossed:
            since = time.time_ns()
            answer = upgraded.upgrade(program=faulty(fault))
            assert answer["left_out"] != []
            upgraded.answers()
            until(lambda: up_with_others(upgraded.a.status()["tunnels"][0], before), "the tunnel, with other SAs")
            assert crossed(since) == set()
    tcp_both_ways(sites.host_a, sites.host_b, netns.HOST_B[0])


@pytest.mark.parametrize("fault", upgrade_faults.AFTER)
def test_after_the_point_of_no_return_the_guard_stays_closed(sites, upgrading, faulty, tmp_path, fault):
    with stream(sites.host_a, harness.BOTH):
        assert leaks_without_us(sites, tmp_path)
        upgraded = upgrading(PAIRS["IKEv2, UDP"], sys.executable, "-m", "tests.netns.upgrade_faults", "impatient", "--")
        with watched(sites, tmp_path) as crossed:
            since = time.time_ns()
            with pytest.raises(ControlError, match="has given its SAs away"):
                upgraded.ask(program=faulty(fault))
            assert upgraded.a.wait(10) == 1
            assert guarded(sites)
            assert crossed(since) == set()
