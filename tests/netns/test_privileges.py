"""`ipsec-dp up` of root keeps nothing of root's but three capabilities, and all that it does later goes on.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import stat
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, IkePair
from ipsec_dp.util.service_user import SERVICE_ID, service_user
from tests.netns.harness import open_guard
from tests.netns.traffic import ping, until

IPSEC_DP = (sys.executable, "-m", "ipsec_dp")
NET_BIND_SERVICE, NET_ADMIN, NET_RAW, BPF = 10, 12, 13, 39
SYS_RESOURCE = 24
NEEDED = {NET_BIND_SERVICE, NET_ADMIN, NET_RAW}


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    """The service manager's socket, in a directory that only root could reach."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path_factory.mktemp("manager") / "notify"))
        yield made


@pytest.fixture(scope="module")
def pair(shared_sites, tmp_path_factory, manager):
    """Both up. gwA has two workers, a service manager and a key log, gwB none of these. The last tests end parts of it."""
    directory = tmp_path_factory.mktemp("pair")
    made = GatewayPair(shared_sites, directory, IkePair())
    config = made.a.config
    config.write_text(config.read_text().replace("[gateway]\n", '[gateway]\nworkers = 2\nkeylog_file = "keys"\n', 1))
    made.a.program = ("env", f"NOTIFY_SOCKET={manager.getsockname()}", "WATCHDOG_USEC=600000", *IPSEC_DP)
    try:
        made.start()
        made.a.wait_negotiated()
        yield made
    finally:
        made.a.kill()
        made.b.kill()
        for namespace, name in ((shared_sites.gw_a, "gwA"), (shared_sites.gw_b, "gwB")):
            open_guard(namespace, name)


def status_of(pid, thread=None):
    """The rows of /proc/PID/status, or of one of its threads."""
    path = Path("/proc", str(pid), *(() if thread is None else ("task", thread)), "status")
    return {name: value.split() for name, _, value in (line.partition(":") for line in path.read_text().splitlines())}


def bits(row):
    mask = int(row[0], 16)
    return {number for number in range(64) if mask >> number & 1}


def children(pid):
    """None where it has ended meanwhile, or that thread of it."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        for task in Path("/proc", str(pid), "task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (task / "children").read_text().split())
    return found


def called(pid):
    """What a process is called; None when it has ended."""
    try:
        return Path("/proc", str(pid), "comm").read_text().strip()
    except OSError:
        return None


# What `up` may raise the limit to here.
MEMLOCK = (
    ["unlimited"] * 2
    if SYS_RESOURCE in bits(status_of("self")["CapEff"])
    else list(map(str, resource.getrlimit(resource.RLIMIT_MEMLOCK)))
)


def helper_of(gateway):
    """The process that stayed root."""
    (child,) = [each for each in children(gateway.process.pid) if called(each) == "ipsec-dp-root"]
    return child


def assert_dropped(pid, needed):
    """In every thread: a capability is each one's own."""
    threads = os.listdir(f"/proc/{pid}/task")
    assert str(pid) in threads
    for thread in threads:
        try:
            rows = status_of(pid, thread)
        except (FileNotFoundError, ProcessLookupError):
            assert thread != str(pid), "any other may have ended meanwhile"
            continue
        assert rows["Uid"] == [str(service_user().uid)] * 4, "real, effective, saved, of files"
        assert rows["Gid"] == [str(service_user().gid)] * 4
        assert "0" not in rows["Groups"]
        assert bits(rows["CapEff"]) == bits(rows["CapPrm"]) == bits(rows["CapBnd"]) == needed
        assert bits(rows["CapInh"]) == bits(rows["CapAmb"]) == {NET_ADMIN}, "for nft"
        assert rows["NoNewPrivs"] == ["1"]


def test_a_running_gateway_is_not_root(pair):
    for gateway, needed in ((pair.a, NEEDED | {BPF}), (pair.b, NEEDED)):
        assert gateway.process is not None
        assert_dropped(gateway.process.pid, needed)
        limits = Path(f"/proc/{gateway.process.pid}/limits").read_text()
        assert [line.split()[3:5] for line in limits.splitlines() if "locked memory" in line] == [MEMLOCK]
        assert gateway.status()["keys"]["ike_locked"] == (MEMLOCK[0] == "unlimited")
        helper = status_of(helper_of(gateway))
        assert helper["NoNewPrivs"] == ["1"]
        assert not bits(helper["CapEff"]) & needed, "and the helper reaches no network"


@pytest.fixture
def reaches(shared_sites):
    return lambda: ping(shared_sites.host_a, netns.HOST_B[0])


def reload(gateway, *file):
    return gateway.namespace.run(*IPSEC_DP, "reload", *map(str, file), "--control", str(gateway.control), check=False)


def test_secrets_stay_roots_at_start_and_at_reload(pair, reaches):
    """Their directory is closed to everybody else: only the helper can open what is in it."""
    directory, config = pair.a.config.parent, pair.a.config
    assert stat.S_IMODE(directory.stat().st_mode) & 0o077 == 0
    reaches()
    (directory / "tunnel.psk").write_text("another secret that both sides share")
    for gateway in (pair.a, pair.b):
        (changed,) = gateway.ask("reload")["changed"]
        assert changed["keys"] == ["auth.material"]
    pair.a.wait_negotiated()
    reaches()
    written = config.read_text()
    config.write_text(written.replace('psk_file = "', 'psk_file = "no-'))
    assert "no such file" in str(pair.a.ask("reload"))
    config.write_text(written)
    reaches()


def test_the_key_log_is_written_where_only_root_could(pair):
    """And is the gateway's, so that none of its files is taken for one of root's."""
    keys = pair.a.config.parent / "keys"
    assert (keys.stat().st_uid, stat.S_IMODE(keys.stat().st_mode)) == (0, 0o700)
    for table in ("esp_sa", "ikev2_decryption_table"):
        assert (keys / table).read_text().endswith('"\n')
        assert ((keys / table).stat().st_uid, stat.S_IMODE((keys / table).stat().st_mode)) == (service_user().uid, 0o600)
    assert not [text for text in pair.a.status()["warnings"] if "keys are not written" in text]


def test_a_configuration_is_read_from_where_root_alone_writes(pair, reaches, tmp_path_factory):
    """Or whoever takes the gateway over would have all of root's files shown."""
    beside = pair.a.config.with_name("beside.toml")
    beside.write_text(pair.a.config.read_text())
    below_tmp = tmp_path_factory.mktemp("elsewhere")
    with TemporaryDirectory(dir="/run") as roots:
        for directory in (below_tmp, Path(roots)):
            (directory / "a.toml").write_text(beside.read_text())
            shutil.copy(pair.a.config.with_name("tunnel.psk"), directory)
        done = reload(pair.a, below_tmp / "a.toml")
        assert done.returncode == 1
        assert "others than root may write /tmp; copy it to where root alone writes" in done.stderr
        done = reload(pair.a, Path(roots, "a.toml"))
        assert done.returncode == 0, done.stderr
    for path in (beside, pair.a.config):
        done = reload(pair.a, path)
        assert done.returncode == 0, done.stderr
    reaches()


def heard(manager):
    """What it has been told and has not read yet."""
    manager.settimeout(0.05)
    said = []
    with contextlib.suppress(TimeoutError):
        while True:
            said.append(manager.recv(200).decode())
    return said


def test_watchdog_and_reload_reach_the_service_manager(pair, manager):
    """A socket that only root could reach: it is connected before anything is dropped."""
    begun = heard(manager)
    assert begun[0] == "READY=1"
    assert "STATUS=0 of 1 tunnel up" in begun or "STATUS=1 of 1 tunnel up" in begun
    manager.settimeout(20)
    while manager.recv(200).decode() != "WATCHDOG=1":
        pass
    os.kill(pair.a.process.pid, signal.SIGHUP)
    while not (said := manager.recv(200).decode()).startswith("RELOADING=1\nMONOTONIC_USEC="):
        assert said.startswith(("WATCHDOG", "STATUS"))
    while (said := manager.recv(200).decode()) != "READY=1":
        assert said.startswith(("WATCHDOG", "STATUS"))
    os.kill(pair.a.process.pid, signal.SIGSTOP)
    try:
        assert "STOPPING=1" not in heard(manager)
        manager.settimeout(0.7)
        with pytest.raises(TimeoutError):
            manager.recv(200)
    finally:
        os.kill(pair.a.process.pid, signal.SIGCONT)


def test_a_living_gateway_is_one_to_root_who_opens(pair):
    """`open` looks for who holds the name: that is not root any more."""
    done = pair.a.namespace.run(*IPSEC_DP, "open", "gwA", "--yes-in-clear", check=False)
    assert done.returncode == 1
    assert "gateway gwA is running" in done.stderr


def test_when_the_helper_is_gone_a_reload_says_so_and_traffic_goes_on(pair, reaches):
    os.kill(helper_of(pair.a), signal.SIGKILL)
    until(lambda: any("read no more" in text for text in pair.a.status()["warnings"]), "a warning")
    done = reload(pair.a)
    assert done.returncode == 1
    assert "the helper that reads files as root has ended; start the gateway anew" in done.stderr
    reaches()


def test_the_helper_ends_with_a_gateway_that_is_killed(pair):
    helper = helper_of(pair.b)
    pair.b.kill()
    until(lambda: not Path(f"/proc/{helper}/exe").exists(), "its end")


def test_the_number_belongs_to_nobody():
    assert 65520 <= SERVICE_ID <= 65533, "between systemd's dynamic users and nobody"
