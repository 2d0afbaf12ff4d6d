"""A gateway in what a container runtime gives: its usual capabilities and NET_ADMIN, /dev/net/tun, /proc/sys read-only.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB        gwA in the container; what else lacks there is each test's
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys

import pytest

from ipsec_dp.host.tun import SETTINGS
from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, IkePair, ManualPair
from ipsec_dp.util.service_user import service_user
from tests.netns import harness
from tests.netns.leaks import guarded
from tests.netns.test_privileges import NEEDED, NET_ADMIN, NET_RAW, bits, children, status_of
from tests.netns.traffic import ping, until

IPSEC_DP = (sys.executable, "-m", "ipsec_dp")
# What Docker and containerd leave to a container, and the one that is added.
USUAL = """
    chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod audit_write setfcap
""".split()
CAPABILITIES = ",".join(["-all", *(f"+{name}" for name in (*USUAL, "net_admin"))])
WITHOUT_NET_RAW = CAPABILITIES.replace(",+net_raw", "")  # as Podman's
READ_ONLY = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; "
WITHOUT_NFT = f"mount --bind /dev/null {shutil.which('nft', path=harness.ENVIRONMENT['PATH'])}; "
WITHOUT_TUN = "mount -t tmpfs tmpfs /dev/net; "
REFUSED = re.compile(r"^interface ipsec0: net\.ipv[46]\.conf\.ipsec0\.\w+: Read-only file system.*--sysctl")


def container(lacks: str = "", capabilities: str = CAPABILITIES) -> tuple[str, ...]:
    """How a program is started in it; `lacks`: lines of shell that take something away."""
    script = f'set -e; {lacks}{READ_ONLY}exec setpriv --bounding-set {capabilities} --inh-caps -all "$@"'
    return ("unshare", "--mount", "--pid", "--mount-proc", "--fork", "sh", "-c", script, "sh")


def doctor(sites, lacks=""):
    """What `doctor` does not find well, by name."""
    said = sites.gw_a.run(*container(lacks), *IPSEC_DP, "doctor", "--json", check=False).stdout
    return {each["name"]: each for each in json.loads(said)["findings"] if each["state"] != "ok"}


def refused(status):
    return [text for text in status["warnings"] if REFUSED.match(text)]


@pytest.fixture
def sites(sites_opened_again):
    return sites_opened_again


def kill(gateway):
    """With all that is in its container: it ends with its first process."""
    if gateway.process is None or gateway.process.poll() is not None:
        return
    for first in children(gateway.process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(first, signal.SIGKILL)
    gateway.process.wait()


@pytest.fixture
def pair(sites, tmp_path):
    made = GatewayPair(sites, tmp_path, ManualPair())
    made.a.program = (*container(), *IPSEC_DP)
    yield made
    kill(made.a)
    made.b.kill()


def test_it_carries_traffic_and_says_which_settings_it_could_not_make(sites, pair):
    before = sites.gw_a.call(harness.picture)
    for gateway in (pair.a, pair.b):
        gateway.start()
    assert refused(pair.a.wait_up())
    assert not refused(pair.b.wait_up())
    for _, address in harness.BOTH:
        ping(sites.host_a, address)
    # Its port is not taken for somebody else's, although nobody there may look into the process.
    lacks = doctor(sites)
    assert {"UDP port 500", "UDP port 4500"}.isdisjoint(lacks)
    assert (lacks["settings of interfaces"]["state"], lacks["settings of interfaces"]["found"]) == (
        "warn",
        "/proc/sys is read-only",
    )
    assert pair.a.down() == 0
    assert "Traceback" not in pair.a.text()
    assert harness.difference(before, sites.gw_a.call(harness.picture)) == []


@pytest.fixture
def negotiated(sites, tmp_path):
    """Starts gwA, without CAP_NET_RAW, and gwB; both call."""
    pairs = []

    def start(**settings):
        made = GatewayPair(sites, tmp_path, IkePair(start=("start", "start"), **settings))
        made.a.program = (*container(capabilities=WITHOUT_NET_RAW), *IPSEC_DP)
        pairs.append(made)
        made.start()
        return made

    yield start
    for made in pairs:
        kill(made.a)
        made.b.kill()


def only(status):
    (tunnel,) = status["tunnels"]
    return tunnel


def test_without_net_raw_esp_goes_in_udp_by_itself(sites, negotiated):
    pair = negotiated(encapsulation="auto")
    status = pair.a.wait_negotiated()
    gateway = gateway_in(pair.a)
    assert NET_RAW not in bits(gateway["CapEff"]), "else this shows nothing"
    assert (only(status)["encapsulation"], only(status)["encapsulation_why"]) == ("udp", "auto")
    said = [text for text in status["warnings"] if text.startswith("IP protocol 50 is not permitted here")]
    assert len(said) == 1
    assert "CAP_NET_RAW" in said[0]
    assert "ESP goes in UDP alone" in said[0]
    for _, address in harness.BOTH:
        ping(sites.host_a, address)
    assert only(pair.b.status())["encapsulation"] == "udp"
    assert pair.a.down() == 0
    assert "Traceback" not in pair.a.text()


def test_without_net_raw_a_tunnel_of_protocol_50_says_that_it_carries_nothing(sites, negotiated):
    pair = negotiated(encapsulation="esp")
    until(lambda: "InstallInbound: IP protocol 50 of 192.0.2.1: not permitted" in pair.a.text(), "an SA was asked for")
    said = " ".join(pair.a.status()["warnings"])
    assert 'tunnels with encapsulation = "esp" carry nothing; leave that out, and their ESP goes in UDP' in said
    assert only(pair.a.status())["children"] == []
    until(lambda: not only(pair.b.status())["children"], "the peer was told, whoever called")
    assert pair.a.down() == 0
    assert "Traceback" not in pair.a.text()


def processes(pid):
    """A program and all that it started."""
    return [pid, *(each for child in children(pid) for each in processes(child))]


def able(container):
    """What runs in it and has the gateway's capability, but for what began it as root."""
    found = []
    for pid in processes(container.process.pid):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found.append(status_of(pid))
    return [rows for rows in found if rows["Name"][0].startswith(("python", "ipsec-dp")) and NET_ADMIN in bits(rows["CapEff"])]


def gateway_in(container):
    """Once whoever tried the offloads has ended."""
    (gateway,) = until(lambda: len(found := able(container)) == 1 and found, "one process", 20)
    return gateway


def test_it_ends_up_as_the_user_and_not_as_root(sites, pair):
    pair.a.start()
    pair.a.wait_up()
    rows = gateway_in(pair.a)
    assert rows["Uid"] == [str(service_user().uid)] * 4
    assert rows["Gid"] == [str(service_user().gid)] * 4
    assert (bits(rows["CapBnd"]), rows["NoNewPrivs"]) == (NEEDED, ["1"])


def test_what_the_runtime_has_set_for_new_interfaces_is_not_missed(sites, pair):
    names = [f"net.{family}.conf.default.{name}" for family, name, _ in SETTINGS]
    before = [sites.gw_a.run("sysctl", "-n", name).stdout.strip() for name in names]
    try:
        sites.gw_a.run("sysctl", "-q", "-w", *(f"{name}={row[-1]}" for name, row in zip(names, SETTINGS, strict=True)))
        pair.a.start()
        assert not refused(pair.a.wait_up())
    finally:
        sites.gw_a.run("sysctl", "-q", "-w", *map("=".join, zip(names, before, strict=True)))


def test_without_ipv6_the_rest_is_carried_and_its_prefixes_stay_closed(lab, tmp_path):
    sites = netns.two_sites(lab)
    sites.gw_a.run("sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    pair = GatewayPair(sites, tmp_path, ManualPair())
    pair.a.program = (*container(), *IPSEC_DP)
    try:
        for gateway in (pair.a, pair.b):
            gateway.start()
        pair.b.wait_up()
        said = " ".join(pair.a.wait_up()["warnings"])
        assert "IPv6 is disabled on ipsec0 by this host's settings" in said
        ping(sites.host_a, netns.HOST_B[0])
        closed = sites.gw_a.run("ip", "-6", "route", "show", "table", "all", "type", "unreachable").stdout
        assert netns.SITE_B_NETS[1] in closed
        assert "IPv6" in doctor(sites)
    finally:
        kill(pair.a)
        pair.b.kill()


@pytest.mark.parametrize(
    ("lacks", "said", "finding", "guard"),
    [
        (WITHOUT_NFT, "ERROR nft is not installed, and without it there is no guard: apt-get install nftables", "nftables", False),
        (WITHOUT_TUN, "ERROR interface ipsec0: /dev/net/tun is not there: .*--device /dev/net/tun", "TUN device", True),
    ],
    ids=["nft", "tun"],
)
def test_what_cannot_be_done_without_is_said_and_leaves_closed(sites, pair, lacks, said, finding, guard):
    pair.a.program = (*container(lacks), *IPSEC_DP)
    pair.a.start()
    assert pair.a.wait(30.0) == 1
    assert re.search(said, pair.a.text())
    assert "Traceback" not in pair.a.text()
    closed = sites.gw_a.run("ip", "route", "show", "table", "all", "proto", "229", "type", "unreachable").stdout
    assert netns.SITE_B_NETS[0] in closed
    assert guarded(sites) is guard
    assert doctor(sites, lacks)[finding]["state"] == "fail"
