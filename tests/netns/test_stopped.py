"""A gateway that does not run: `guard` closes before it starts, `open` opens what it left, `down` says what is closed.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, ManualPair, write_pair
from tests.netns import harness
from tests.netns.leaks import guarded, leaks_without_us, watched
from tests.netns.traffic import EVERY_KIND, ping, stream, until

IPSEC_DP = (sys.executable, "-m", "ipsec_dp")
ZONES = """
[[zone]]
name = "vpn"
interfaces = ["ipsec0"]
[[zone]]
name = "lan"
interfaces = ["lan"]
[[zone_rule]]
from = "lan"
to = "vpn"
[[zone_rule]]
from = "vpn"
to = "lan"
"""
BYPASS = '[[policy]]\naction = "bypass"\nlocal = "10.1.0.0/24"\nremote = "10.2.0.0/24"\nprotocol = "tcp"\nremote_ports = 443\n'


@pytest.fixture
def sites(shared_sites):
    yield shared_sites
    for namespace, name in ((shared_sites.gw_a, "gwA"), (shared_sites.gw_b, "gwB"), (shared_sites.gw_a, "gwC")):
        harness.open_guard(namespace, name)


@pytest.fixture
def pair(sites, tmp_path):
    made = GatewayPair(sites, tmp_path, ManualPair(tables=ZONES + BYPASS))
    yield made
    made.a.kill()
    made.b.kill()


def cli(sites, *arguments, stdin=""):
    return sites.gw_a.run(*IPSEC_DP, *arguments, check=False, stdin=stdin)


def picture(sites):
    return sites.gw_a.call(harness.picture)


def test_guard_closes_as_up_does_and_no_more(sites, pair, tmp_path):
    before = picture(sites)
    pair.a.start()
    pair.a.wait_up()
    pair.a.kill()
    left = picture(sites)
    harness.open_guard(sites.gw_a, "gwA")
    assert harness.difference(before, picture(sites)) == []
    with stream(sites.host_a, harness.BOTH):
        assert leaks_without_us(sites, tmp_path)
        for _ in range(2):  # once more changes nothing
            done = cli(sites, "guard", str(pair.a.config))
            assert (done.returncode, done.stdout) == (
                0,
                "gateway gwA: the guard and unreachable routes keep protected traffic from leaving in clear\n",
            ), done.stderr
            assert harness.difference(left, picture(sites)) == []
        with watched(sites, tmp_path) as crossed:
            assert crossed() == set()
    pair.start()
    ping(sites.host_a, netns.HOST_B[0])
    assert pair.stop() == (0, 0)
    assert harness.difference(before, picture(sites)) == []


def test_guard_closes_though_a_secret_is_missing(sites, pair):
    (pair.a.config.parent / "a-to-b.key").unlink()
    assert cli(sites, "up", str(pair.a.config)).returncode == 2
    assert not guarded(sites)
    done = cli(sites, "guard", str(pair.a.config))
    assert done.returncode == 0, done.stderr
    assert "warning: " in done.stderr
    assert guarded(sites)


def test_guard_refuses_what_does_not_say_what_is_protected(sites, pair):
    pair.a.config.write_text(pair.a.config.read_text().replace(netns.SITE_B_NETS[0], "10.2.0.0/99"))
    assert cli(sites, "guard", str(pair.a.config)).returncode == 2
    assert not guarded(sites)


def test_guard_leaves_a_gateway_that_runs_alone(sites, pair):
    pair.start()
    up = picture(sites)
    done = cli(sites, "guard", str(pair.a.config))
    assert (done.returncode, done.stdout) == (1, "")
    assert "gateway gwA is already running" in done.stderr
    assert harness.difference(up, picture(sites)) == []


def test_open_takes_all_of_a_dead_gateway_away_and_nothing_of_another(sites, pair, tmp_path):
    before = picture(sites)
    (tmp_path / "other").mkdir()
    other, _ = write_pair(tmp_path / "other", ManualPair(), ("gwC", "gwD"))
    assert cli(sites, "guard", str(other)).returncode == 0
    with_another = picture(sites)
    pair.a.start()
    pair.a.wait_up()
    pair.a.kill()
    done = cli(sites, "open", "gwA", "--yes-in-clear")
    assert done.returncode == 0, done.stderr
    for prefix in netns.SITE_B_NETS:
        assert f"  {prefix}\n" in done.stderr
    assert "WARNING gateway gwA was opened by hand: packets to 10.2.0.0/24, fd00:2::/64 leave in clear now" in done.stderr
    assert harness.difference(with_another, picture(sites)) == []
    assert cli(sites, "open", "gwC", "--yes-in-clear").returncode == 0
    assert harness.difference(before, picture(sites)) == []
    with stream(sites.host_a, harness.BOTH), watched(sites, tmp_path) as crossed:
        assert crossed() == EVERY_KIND  # it is open


@pytest.mark.parametrize("flush", ["guard", "routes"])
def test_open_takes_what_is_left_where_others_took_a_part(sites, pair, flush):
    before = picture(sites)
    assert cli(sites, "guard", str(pair.a.config)).returncode == 0
    if flush == "guard":
        sites.gw_a.run("nft", "flush", "ruleset")
    else:
        for version in "46":
            sites.gw_a.run("ip", f"-{version}", "route", "flush", "table", "all", "proto", "229")
    done = cli(sites, "open", "gwA", "--yes-in-clear")
    assert done.returncode == 0, done.stderr
    assert netns.SITE_B_NETS[0] in done.stderr
    assert harness.difference(before, picture(sites)) == []


def test_open_refuses_while_the_gateway_lives(sites, pair):
    pair.start()
    up = picture(sites)
    done = cli(sites, "open", "gwA", "--yes-in-clear")
    assert done.returncode == 1
    assert f"gateway gwA is running (process {pair.a.process.pid})" in done.stderr
    assert harness.difference(up, picture(sites)) == []
    ping(sites.host_a, netns.HOST_B[0])


def test_open_refuses_while_the_gateway_starts(sites, pair):
    pair.a.start()
    until(lambda: guarded(sites), "the guard")
    done = cli(sites, "open", "gwA", "--yes-in-clear")
    assert done.returncode == 1
    assert guarded(sites)
    pair.a.wait_up()


def test_open_asks_at_a_terminal_only(sites, pair):
    assert cli(sites, "guard", str(pair.a.config)).returncode == 0
    done = cli(sites, "open", "gwA", stdin="gwA\n")
    assert done.returncode == 2
    assert "--yes-in-clear" in done.stderr
    assert guarded(sites)


@pytest.mark.parametrize(("typed", "status"), [("gwA", 0), ("gwB", 1), ("y", 1), ("", 1)])
def test_the_name_has_to_be_typed(sites, pair, typed, status):
    assert cli(sites, "guard", str(pair.a.config)).returncode == 0
    command = f"{' '.join(IPSEC_DP)} open gwA"
    done = sites.gw_a.run("script", "-qec", command, "/dev/null", stdin=f"{typed}\n", check=False)
    assert done.returncode == status, done.stdout
    assert guarded(sites) is (status != 0)
    assert ("leave in clear now" in done.stdout) is (status == 0)


def test_open_of_what_left_nothing_says_so(sites):
    done = cli(sites, "open", "gwA")
    assert (done.returncode, done.stdout) == (0, "gateway gwA left nothing here: nothing is closed in its name\n")


def test_down_on_a_dead_gateway_says_what_it_left_and_what_helps(sites, pair):
    pair.a.start()
    pair.a.wait_up()
    pair.a.kill()
    done = cli(sites, "down", "--control", str(pair.a.control))
    assert done.returncode == 3
    assert (
        "gateway gwA does not run, but the guard and unreachable routes keep protected traffic from leaving in clear; the next "
        "`ipsec-dp up` goes on from there, and `ipsec-dp open gwA` takes all of it away"
    ) in done.stderr
    assert cli(sites, "open", "gwA", "--yes-in-clear").returncode == 0
    done = cli(sites, "down", "--control", str(pair.a.control))
    assert (done.returncode, "does not run" in done.stderr) == (3, False)


SQUATTER = """
import socket, sys
held = socket.socket(socket.AF_UNIX)
held.bind(b"\\0ipsec-dp/gwA")
held.listen()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_user_who_takes_the_name_keeps_no_gateway_from_closing(sites, pair):
    user = ("setpriv", "--reuid", "65534", "--clear-groups", "--bounding-set", "-all", "--inh-caps", "-all")
    squatter = sites.gw_a.spawn(*user, sys.executable, "-c", SQUATTER, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert squatter.stdout.readline() == b"held\n"
    pair.start()
    until(lambda: "of user 65534 holds the name of gateway gwA and cannot be one" in pair.a.text(), "it is in the log")
    second = cli(sites, "up", str(pair.a.config), "--control", str(pair.a.control.with_name("second.sock")))
    assert second.returncode == 1, "its routes show that it runs"
    assert "gateway gwA is already running" in second.stderr
    ping(sites.host_a, netns.HOST_B[0])
    squatter.communicate()
