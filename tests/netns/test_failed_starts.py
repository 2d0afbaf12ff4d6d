"""Starts that fail: one line with the cause and the remedy, no traceback, and nothing is said to be closed that is not.

Each is the whole program in a namespace of gwA, in a mount namespace of its own where files are what fails.
"""

from __future__ import annotations

import re
import shutil
import signal
import sys

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns import harness
from tests.netns.leaks import guarded
from tests.netns.traffic import ping, until

IPSEC_DP = (sys.executable, "-m", "ipsec_dp")
ALONE = "mount --make-rprivate /; "
OWN_RUN = f"{ALONE}mount -t tmpfs tmpfs /run; "
WITHOUT_ADMIN = "exec setpriv --bounding-set -net_admin --inh-caps -net_admin "
GONE = "mount --bind /dev/null "
WITHOUT_NFT = f"{ALONE}{GONE}{shutil.which('nft', path=harness.ENVIRONMENT['PATH'])}; "
LONG = "x" * 120


@pytest.fixture
def sites(sites_opened_again):
    return sites_opened_again


def started(sites, script, *arguments):
    """`ipsec-dp` after a line of shell, in a mount namespace of its own; `exec` in the script comes before the command."""
    run = script if script.rstrip().endswith(("exec", "-net_admin", "-all")) else f"{script}exec"
    return sites.gw_a.run("unshare", "-m", "sh", "-c", f'{run} "$@"', "sh", *IPSEC_DP, *arguments, check=False)


def unreachable(sites):
    listed = sites.gw_a.run("ip", "route", "show", "table", "all", "proto", "229", "type", "unreachable").stdout
    return netns.SITE_B_NETS[0] in listed


def is_true(sites, said):
    """Whether what is said about being closed is what the kernel has."""
    guard, routes = guarded(sites), unreachable(sites)
    found = {
        "the guard and unreachable routes keep": guard and routes,
        "the guard alone keeps": guard and not routes,
        "unreachable routes alone keep": routes and not guard,
        "no unreachable routes keep": not routes,
        "nothing keeps": not routes and not guard,
    }
    return [true for text, true in found.items() if text in said]


CASES = {
    "run is read-only": (
        f"{ALONE}mount -t tmpfs -o ro tmpfs /run; ",
        (),
        r"control socket /run/ipsec-dp/gwA.sock cannot be made: .*Read-only file system; .*--control PATH",
    ),
    "run/ipsec-dp is a file": (
        f"{OWN_RUN}touch /run/ipsec-dp; ",
        (),
        r"control socket /run/ipsec-dp/gwA.sock cannot be made: .*a file is where a directory should be: remove it",
    ),
    "no such directory can be made": (
        "",
        ("--control", "/proc/nowhere/x.sock"),
        r"control socket /proc/nowhere/x.sock cannot be made",
    ),
    "path too long": ("", ("--control", f"/tmp/{LONG}.sock"), r"path has 130 octets, and 107 are the most: .*give a shorter one"),
    **{
        f"{most} file descriptors": (
            f"ulimit -n {most}; ",
            (),
            r"Too many open files; .*raise the limit with `ulimit -n 1024`",
        )
        for most in range(9, 13)
    },
    "no CAP_NET_ADMIN": (WITHOUT_ADMIN, (), r"Operation not permitted; .*run it as root, .*CAP_NET_ADMIN"),
    "no capability": (
        "exec setpriv --bounding-set -all --inh-caps -all ",
        (),
        r"Operation not permitted; .*run it as root, .*CAP_NET_ADMIN",
    ),
    "no nft": (WITHOUT_NFT, (), r"apt-get install nftables"),
    "no tun": (f"{ALONE}{GONE}/dev/net/tun; ", (), r"interface ipsec0: "),
}


@pytest.mark.parametrize("most", range(6, 9))
def test_before_anything_is_read_it_is_one_line_too(sites, pair, most):
    """Python would tell a traceback of an event loop that it could make only halfway."""
    done = started(sites, f"ulimit -n {most}; ", "up", str(pair.a.config), "--control", str(pair.a.control))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.search(r"Too many open files; .*raise the limit with `ulimit -n 1024`", line)


@pytest.mark.parametrize(("script", "arguments", "said"), CASES.values(), ids=CASES)
def test_a_failed_start_is_one_line_and_says_the_truth(sites, pair, tmp_path, script, arguments, said):
    where = () if script.startswith(ALONE) and "/run" in script else ("--control", str(pair.a.control))
    done = started(sites, script, "up", str(pair.a.config), *(arguments or where))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (error,) = [line for line in done.stderr.splitlines() if " ERROR " in line]
    assert re.search(said, error)
    assert is_true(sites, done.stderr) == [True] or ("ulimit" in script and "cannot be seen: " in done.stderr)
    if guarded(sites) or unreachable(sites):
        assert "`ipsec-dp open gwA` takes all of it away" in done.stderr


def test_without_nft_open_takes_away_what_the_failed_start_left(sites, pair):
    """With 0.0.0.0/0 protected, nft could not even be installed before that."""
    before = sites.gw_a.call(harness.picture)
    assert started(sites, WITHOUT_NFT, "up", str(pair.a.config), "--control", str(pair.a.control)).returncode == 1
    assert unreachable(sites)
    done = started(sites, WITHOUT_NFT, "down", "--control", str(pair.a.control))
    assert "`ipsec-dp open gwA` takes all of it away" in done.stderr
    done = started(sites, WITHOUT_NFT, "open", "gwA", "--yes-in-clear")
    assert done.returncode == 0, done.stderr
    assert f"  {netns.SITE_B_NETS[0]}\n" in done.stderr
    assert harness.difference(before, sites.gw_a.call(harness.picture)) == []


def test_without_nft_open_takes_a_guard_away_and_says_what_it_cannot_list(sites, pair):
    before = sites.gw_a.call(harness.picture)
    zone = '\n[[zone]]\nname = "vpn"\ninterfaces = ["ipsec0"]\n'
    pair.a.config.write_text(pair.a.config.read_text() + zone)
    assert started(sites, "", "guard", str(pair.a.config)).returncode == 0
    assert guarded(sites)
    done = started(sites, WITHOUT_NFT, "open", "gwA", "--yes-in-clear")
    assert done.returncode == 0, done.stderr
    assert "cannot be listed: nft is not installed" in done.stderr
    assert harness.difference(before, sites.gw_a.call(harness.picture)) == []


def test_without_the_control_socket_it_is_closed_all_the_same(sites, pair):
    """The guard comes before the control socket."""
    done = started(sites, "", "up", str(pair.a.config), "--control", f"/tmp/{LONG}.sock")
    assert done.returncode == 1
    assert guarded(sites)
    assert unreachable(sites)


def test_who_is_not_root_is_told_so(sites, pair, tmp_path_factory):
    """The configuration is its own, so that it is not that which fails."""
    place = tmp_path_factory.mktemp("other", numbered=True)
    script = f"{ALONE}mount -t tmpfs -o mode=755 tmpfs {place}; cp {pair.a.config} {pair.a.config.parent}/*.key {place}; "
    script += f"chown 65534 {place}/*; cd {place}; exec setpriv --reuid 65534 --clear-groups --bounding-set -all --inh-caps -all "
    outer = place.parent
    done = started(
        sites,
        f"mount --bind {outer} /mnt; " + script.replace(str(place), "/srv"),
        "up",
        "/srv/gwA.toml",
        "--control",
        "/tmp/u.sock",
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "run it as root" in done.stderr
    assert is_true(sites, done.stderr) == [True]


INTERRUPTED = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
raise ImportError("went on")
"""


@pytest.mark.parametrize("module", ["click", "msgspec", "pyroute2", "pytun"])
def test_an_interrupt_while_it_is_loaded_ends_it_without_a_traceback(sites, pair, tmp_path, module):
    """Ctrl-C that comes while this module is imported."""
    (tmp_path / "stubs").mkdir()
    (tmp_path / "stubs" / f"{module}.py").write_text(INTERRUPTED)
    path = f"PYTHONPATH={tmp_path / 'stubs'}"
    done = sites.gw_a.run("env", path, *IPSEC_DP, "up", str(pair.a.config), "--control", str(pair.a.control), check=False)
    assert done.returncode == -signal.SIGINT
    assert not re.search("Traceback|ERROR", done.stderr)
    assert not guarded(sites)


def test_an_interrupt_while_it_starts_stops_it_and_leaves_nothing(sites, pair):
    before = sites.gw_a.call(harness.picture)
    pair.a.start()
    until(lambda: guarded(sites), "the guard")
    pair.a.process.send_signal(signal.SIGINT)
    assert pair.a.wait(10) == 0
    assert "Traceback" not in pair.a.text()
    assert harness.difference(before, sites.gw_a.call(harness.picture)) == []


IPV6 = ("net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6")


def test_without_ipv6_ipv4_goes_on(sites, tmp_path):
    """IPv6 disabled by sysctl on both gateways: their IPv6 proxy IDs and addresses wait, and are told of."""
    pair = GatewayPair(sites, tmp_path, ManualPair(tunnel='address = ["169.254.7.1/30", "fd00:7::1/64"]'))
    for gateway in (sites.gw_a, sites.gw_b):
        gateway.sysctl(*((path, "1") for path in IPV6))
    try:
        status, _ = pair.start()
        ping(sites.host_a, netns.HOST_B[0])
        (warning,) = [text for text in status["warnings"] if "IPv6 is disabled on" in text]
        assert "net.ipv6.conf" in warning
        assert netns.SITE_B_NETS[1] in warning
        assert pair.stop() == (0, 0)
        assert "Traceback" not in pair.a.text()
    finally:
        pair.a.kill()
        pair.b.kill()
        for gateway, outer, inner in (
            (sites.gw_a, netns.GW_A_OUTER, netns.GW_A_INNER),
            (sites.gw_b, netns.GW_B_OUTER, netns.GW_B_INNER),
        ):
            gateway.sysctl(*((path, "0") for path in IPV6))
            gateway.ip(f"address replace {outer[1]}/64 dev wan nodad", f"address replace {inner[1]}/64 dev lan nodad")
