"""`ipsec-dp up` of root keeps nothing of root's but three capabilities, and all that it does later goes on.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, IkePair
from ipsec_dp.util.service_user import SERVICE_ID, service_user
from tests.netns.traffic import ping, until

IPSEC_DP = (sys.executable, "-m", "ipsec_dp")
NET_BIND_SERVICE, NET_ADMIN, NET_RAW, BPF = 10, 12, 13, 39
SYS_RESOURCE = 24
NEEDED = {NET_BIND_SERVICE, NET_ADMIN, NET_RAW}


@pytest.fixture
def sites(sites_opened_again):
    return sites_opened_again


@pytest.fixture
def pair(sites, tmp_path):
    """Not started; what runs of it is killed after the test."""
    made = GatewayPair(sites, tmp_path, IkePair())
    yield made
    made.a.kill()
    made.b.kill()


def status_of(pid, thread=None):
    """The rows of /proc/PID/status, or of one of its threads."""
    path = Path("/proc", str(pid), *(() if thread is None else ("task", thread)), "status")
    return {name: value.split() for name, _, value in (line.partition(":") for line in path.read_text().splitlines())}


def bits(row):
    mask = int(row[0], 16)
    return {number for number in range(64) if mask >> number & 1}


def children(pid):
    return [int(child) for task in Path("/proc", str(pid), "task").iterdir() for child in (task / "children").read_text().split()]


# What `up` may raise the limit to here.
MEMLOCK = (
    ["unlimited"] * 2
    if SYS_RESOURCE in bits(status_of("self")["CapEff"])
    else list(map(str, resource.getrlimit(resource.RLIMIT_MEMLOCK)))
)


def helper_of(gateway):
    """The process that stayed root."""
    (child,) = [each for each in children(gateway.process.pid) if status_of(each)["Name"] == ["ipsec-dp-root"]]
    return child


def assert_dropped(pid, needed):
    """In every thread: a capability is each one's own."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        rows = status_of(pid, thread)
        assert rows["Uid"] == [str(service_user().uid)] * 4, "real, effective, saved, of files"
        assert rows["Gid"] == [str(service_user().gid)] * 4
        assert "0" not in rows["Groups"]
        assert bits(rows["CapEff"]) == bits(rows["CapPrm"]) == bits(rows["CapBnd"]) == needed
        assert bits(rows["CapInh"]) == bits(rows["CapAmb"]) == {NET_ADMIN}, "for nft"
        assert rows["NoNewPrivs"] == ["1"]


@pytest.mark.parametrize(("workers", "needed"), [(1, NEEDED), (2, NEEDED | {BPF})])
def test_a_running_gateway_is_not_root(sites, tmp_path, workers, needed):
    gateway = GatewayPair(sites, tmp_path, IkePair(gateway=f"workers = {workers}\n")).a
    gateway.start()
    try:
        gateway.wait_up()
        assert gateway.process is not None
        assert_dropped(gateway.process.pid, needed)
        limits = Path(f"/proc/{gateway.process.pid}/limits").read_text()
        assert [line.split()[3:5] for line in limits.splitlines() if "locked memory" in line] == [MEMLOCK]
        helper = status_of(helper_of(gateway))
        assert helper["NoNewPrivs"] == ["1"]
        assert not bits(helper["CapEff"]) & needed, "and the helper reaches no network"
    finally:
        assert gateway.terminate() == 0
    assert not gateway.control.exists()


def reaches(sites):
    ping(sites.host_a, netns.HOST_B[0])


def test_secrets_stay_roots_at_start_and_at_reload(sites, pair, tmp_path):
    """Their directory is closed to everybody else: only the helper can open what is in it."""
    assert stat.S_IMODE(tmp_path.stat().st_mode) & 0o077 == 0
    pair.start()
    pair.a.wait_negotiated()
    reaches(sites)
    (tmp_path / "tunnel.psk").write_text("another secret that both sides share")
    for gateway in (pair.a, pair.b):
        (changed,) = gateway.ask("reload")["changed"]
        assert changed["keys"] == ["auth.material"]
    pair.a.wait_negotiated()
    reaches(sites)
    config = pair.a.config
    config.write_text(config.read_text().replace('psk_file = "', 'psk_file = "no-'))
    assert "no such file" in str(pair.a.ask("reload"))
    reaches(sites)


def test_when_the_helper_is_gone_a_reload_says_so_and_traffic_goes_on(sites, pair):
    pair.start()
    pair.a.wait_negotiated()
    os.kill(helper_of(pair.a), signal.SIGKILL)
    until(lambda: any("read no more" in text for text in pair.a.status()["warnings"]), "a warning")
    done = pair.a.namespace.run(*IPSEC_DP, "reload", "--control", str(pair.a.control), check=False)
    assert done.returncode == 1
    assert "the helper that reads files as root has ended; start the gateway anew" in done.stderr
    reaches(sites)


def test_the_helper_ends_with_a_gateway_that_is_killed(sites, pair):
    pair.a.start()
    pair.a.wait_up()
    helper = helper_of(pair.a)
    pair.a.kill()
    until(lambda: not Path(f"/proc/{helper}/exe").exists(), "its end")


def test_a_configuration_from_elsewhere_is_not_read_for_it(sites, pair, tmp_path_factory):
    """Or whoever takes the gateway over would have all of root's files shown."""
    pair.a.start()
    pair.a.wait_up()
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "a.toml"
    elsewhere.write_text(pair.a.config.read_text())
    done = pair.a.namespace.run(*IPSEC_DP, "reload", str(elsewhere), "--control", str(pair.a.control), check=False)
    assert done.returncode == 1
    assert "copy it there" in done.stderr
    beside = pair.a.config.with_name("beside.toml")
    beside.write_text(pair.a.config.read_text())
    done = pair.a.namespace.run(*IPSEC_DP, "reload", str(beside), "--control", str(pair.a.control), check=False)
    assert done.returncode == 0, done.stderr


def test_watchdog_and_reload_reach_the_service_manager(sites, pair, tmp_path):
    """A socket that only root could reach: it is connected before anything is dropped."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        pair.a.program = ("env", f"NOTIFY_SOCKET={tmp_path / 'notify'}", "WATCHDOG_USEC=600000", *IPSEC_DP)
        pair.a.start()
        heard = [manager.recv(200).decode()]
        assert heard == ["READY=1"]
        while heard.count("WATCHDOG=1") < 2 or not any(each.startswith("STATUS=") for each in heard):
            heard.append(manager.recv(200).decode())
        assert "STATUS=0 of 1 tunnel up" in heard
        os.kill(pair.a.process.pid, signal.SIGHUP)
        while not (said := manager.recv(200).decode()).startswith("RELOADING=1\nMONOTONIC_USEC="):
            assert said.startswith(("WATCHDOG", "STATUS"))
        while (said := manager.recv(200).decode()) != "READY=1":
            assert said.startswith(("WATCHDOG", "STATUS"))
        os.kill(pair.a.process.pid, signal.SIGSTOP)
        try:
            manager.settimeout(0.1)
            said = ""
            with contextlib.suppress(TimeoutError):
                while True:
                    said = manager.recv(200).decode()
            with pytest.raises(TimeoutError):
                manager.recv(200)
            assert said != "STOPPING=1"
        finally:
            os.kill(pair.a.process.pid, signal.SIGCONT)


def test_a_living_gateway_is_one_to_root_who_opens(sites, pair):
    """`open` looks for who holds the name: that is not root any more."""
    pair.a.start()
    pair.a.wait_up()
    done = pair.a.namespace.run(*IPSEC_DP, "open", "gwA", "--yes-in-clear", check=False)
    assert done.returncode == 1
    assert "gateway gwA is running" in done.stderr


def test_the_number_belongs_to_nobody():
    assert 65520 <= SERVICE_ID <= 65533, "between systemd's dynamic users and nobody"
