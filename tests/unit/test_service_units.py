"""The systemd units of conf/: what comes before what at boot, and that they start verbs that there are."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ipsec_dp.cli.commands import program
from ipsec_dp.cli.doctor import CAPABILITIES
from ipsec_dp.config.model import STATE_DIRECTORY
from ipsec_dp.errors import ConfigError
from ipsec_dp.gateway.control_rights import DIRECTORY_OPEN
from ipsec_dp.gateway.service_reports import BEATS, STATUS_S
from ipsec_dp.rig.peers import UNPACKED, find, is_unpacked
from ipsec_dp.util.service_user import SERVICE_USER

CONF = Path(__file__).resolve().parents[2] / "conf"
GUARD, GATEWAY, ALONE = "ipsec-dp-guard@.service", "ipsec-dp@.service", "ipsec-dp.service"
EXPOSURE_MOST = 2.5  # of `systemd-analyze security`, from 0 to 10
RULESETS = {  # each may begin with `flush ruleset`
    f"{name}.service" for name in "nftables netfilter-persistent ufw firewalld iptables ip6tables ferm shorewall shorewall6".split()
}


class Lists(dict[Any, Any]):
    """As systemd reads it, a key that comes again adds to its list."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, self[key] + value if isinstance(value, list) and key in self else value)


def unit(name):
    """Of a key that is there several times, all that it lists."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, dict_type=Lists)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(CONF / name)
    return parser


def words(name, section, key):
    return unit(name)[section][key].split()


@pytest.mark.parametrize("name", [path.name for path in CONF.glob("*.service")])
def test_every_unit_starts_a_verb_with_the_gateways_file(name):
    command = words(name, "Service", "ExecStart")
    assert command[:2] == ["/usr/bin/env", "ipsec-dp"]
    assert command[2] in program.commands
    assert command[3] == ("/etc/ipsec-dp/gateway.toml" if name == ALONE else "/etc/ipsec-dp/%i.toml")


def test_the_unit_of_one_gateway_is_that_of_several_with_a_name():
    """But for the comment in front."""
    one, several = ((CONF / name).read_text().partition("[Unit]")[2] for name in (ALONE, GATEWAY))
    assert one == several.replace("gateway %i", "gateway").replace("%i", "gateway")


def test_a_configuration_that_is_refused_is_not_started_again_and_again():
    service = unit(GATEWAY)["Service"]
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == str(ConfigError.exit_status) == "2"


def test_the_gateway_may_do_what_it_has_to():
    needed = {name for _, name, _, _ in CAPABILITIES}
    assert unit(GATEWAY)["Service"]["LimitMEMLOCK"] == "infinity", "or IKE's keys may reach swap"
    for key in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert set(words(GATEWAY, "Service", key)) == needed
    assert unit(GATEWAY)["Service"]["RuntimeDirectoryMode"] == f"{DIRECTORY_OPEN:04o}"
    kept = unit(GATEWAY)["Service"]
    assert (Path("/var/lib") / kept["StateDirectory"], kept["StateDirectoryMode"]) == (STATE_DIRECTORY, "0700")
    assert kept["User"] == SERVICE_USER == (CONF / "ipsec-dp.sysusers").read_text().splitlines()[-1].split()[1]


@pytest.mark.parametrize("name", [GATEWAY, ALONE])
def test_the_service_manager_keeps_no_descriptor_and_hears_the_main_process_alone(name):
    """As is the case unless a unit says otherwise (systemd.service(5))."""
    said = unit(name)["Service"]
    assert [key for key in said if key.startswith(("FileDescriptorStore", "NotifyAccess"))] == []


def command_of(name, key):
    """As systemd starts it: `$$` stands for `$` (systemd.service(5))."""
    return shlex.split(unit(name)["Service"][key].removeprefix("-").replace("$$", "$"))


@pytest.mark.parametrize("name", [path.name for path in CONF.glob("*.service")])
def test_what_a_unit_runs_is_there_on_the_smallest_system(name):
    """As /bin/kill is not, which procps brings: a reload failed there, and after an upgrade no gateway was asked."""
    commands = [line.removeprefix("-").split() for key, line in unit(name)["Service"].items() if key.startswith("Exec")]
    assert {command[0] for command in commands} <= {"/bin/sh", "/usr/bin/env"}


@pytest.mark.parametrize("name", [GATEWAY, ALONE])
def test_a_reload_is_a_sighup_to_the_main_process(name):
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        try:
            subprocess.run(command_of(name, "ExecReload"), check=True, env={"MAINPID": str(process.pid)}, timeout=60)
            assert process.wait(60) == -signal.SIGHUP
        finally:
            process.kill()


@pytest.mark.parametrize("name", [GATEWAY, ALONE])
def test_a_stop_waits_for_the_end_of_whatever_process_is_the_main_one(name):
    """Of one that it did not start, as after an upgrade, systemd awaits no end."""
    assert unit(name)["Service"]["ExecStop"].startswith("-"), "that it has ended already is no failure"
    command = command_of(name, "ExecStop")
    slow = (
        "import signal, sys, time\nsignal.signal(15, lambda *_: (time.sleep(0.3), sys.exit(0)))\nprint(flush=True)\nsignal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", slow], stdout=subprocess.PIPE) as process:
        reaping = threading.Thread(target=process.wait)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            reaping.start()
            subprocess.run(command, check=False, env=os.environ | {"MAINPID": str(process.pid)}, timeout=60)
            with pytest.raises(ProcessLookupError):
                os.kill(process.pid, 0)
            reaping.join(60)
        finally:
            process.kill()
    assert process.returncode == 0


def test_a_stop_of_a_gateway_that_has_ended_by_itself_is_over_at_once():
    """Then there is no main process."""
    environment = {key: value for key, value in os.environ.items() if key != "MAINPID"}
    done = subprocess.run(command_of(GATEWAY, "ExecStop"), check=False, env=environment, timeout=60, capture_output=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_the_watchdog_hears_more_often_than_it_has_to():
    seconds = int(unit(GATEWAY)["Service"]["WatchdogSec"])
    assert seconds >= BEATS * STATUS_S, "a beat that comes late does no harm"


@pytest.fixture(params=(GATEWAY, ALONE))
def installed(request, tmp_path):
    """The unit as it is installed, beside the others."""
    for path in CONF.glob("*.service"):
        text = path.read_text().replace("ExecStart=/usr/bin/env ipsec-dp", f"ExecStart=/usr/bin/env {sys.executable}")
        for name in {path.name, path.name.replace("@.", "@gateway.")}:
            (tmp_path / name).write_text(text)
    return tmp_path / request.param.replace("@.", "@gateway.")


def analyze(*arguments):
    """`systemd-analyze`, on files alone: nothing of the host's manager is asked."""
    program = find("systemd-analyze", "systemd")
    libraries = [str(path.parent) for path in UNPACKED.rglob("libsystemd-shared-*.so")] if is_unpacked(program) else []
    environment = os.environ | ({"LD_LIBRARY_PATH": ":".join((*libraries, str(Path(libraries[0]).parent)))} if libraries else {})
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, env=environment)


def test_systemd_finds_nothing_wrong_with_it(installed):
    done = analyze("verify", "--man=no", str(installed))
    assert (done.returncode, re.findall(r"ipsec-dp\S*:.*", done.stderr)) == (0, [])
    installed.write_text(installed.read_text().replace("NoNewPrivileges=yes", "NoNewPrivilege=yes"))
    assert "NoNewPrivilege" in analyze("verify", "--man=no", str(installed)).stderr, "and it does look"


# Beside what every Python program calls: what `strace -f` shows of a gateway with a tunnel, keys for Wireshark and metrics that
# begins as a user, is reloaded and ends.
CALLS = set(
    """
    accept4 bind capget capset clone clone3 close_range connect epoll_create1 epoll_ctl epoll_wait eventfd2 execve exit_group fcntl
    fstat futex getpeername getpid getrandom getsockname getsockopt ioctl listen madvise memfd_create mkdir mlock mlockall mmap
    mprotect mremap munmap newfstatat openat pidfd_open pidfd_send_signal pipe2 poll prctl prlimit64 pselect6 readlinkat readv
    recvfrom recvmmsg recvmsg rt_sigaction sched_getaffinity sched_setaffinity sendmmsg sendmsg sendto setpriority setsockopt
    socket socketpair umask unlink vfork wait4 waitid
    """.split()
)


def groups():
    """What is in each group of systemd's: names, and other groups."""
    found: dict[str, list[str]] = {}
    for line in analyze("syscall-filter").stdout.splitlines():
        if line.startswith("@"):
            found[line.strip()] = []
        elif found and line.startswith(" ") and not line.strip().startswith("#"):
            found[list(found)[-1]].append(line.strip())
    return found


def calls(found, word):
    return {word} if not word.startswith("@") else set().union(*(calls(found, each) for each in found[word]))


def test_every_call_of_a_gateway_passes_its_filter():
    """capset: by it a gateway keeps CAP_NET_ADMIN for nft, and nothing else."""
    found, passing = groups(), set[str]()
    for line in re.findall(r"^SystemCallFilter=(.*)$", (CONF / GATEWAY).read_text(), re.MULTILINE):
        named = set[str]().union(*(calls(found, word) for word in line.removeprefix("~").split()))
        passing = passing - named if line.startswith("~") else passing | named
    assert CALLS - passing == set()
    assert {"setresuid", "mount", "ptrace", "init_module", "bpf"} & passing == set(), "and it is a filter"


def exposure(path):
    said = analyze("security", "--offline=yes", "--no-pager", str(path)).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found is not None, said
    return float(found[1])


def test_it_exposes_little(installed):
    assert exposure(installed) <= EXPOSURE_MOST
    installed.write_text(
        "".join(line for line in installed.read_text().splitlines(True) if not line.startswith("SystemCallFilter"))
    )
    assert exposure(installed) > EXPOSURE_MOST, "and each line counts"


def test_the_guard_is_closed_before_the_network_and_after_what_flushes_rulesets():
    assert "network-pre.target" in words(GUARD, "Unit", "Before")
    assert words(GUARD, "Unit", "Wants") == ["network-pre.target"]  # or nothing would order by it
    assert words(GUARD, "Unit", "DefaultDependencies") == ["no"]  # they would put it after what it has to precede
    assert set(words(GUARD, "Unit", "After")) > RULESETS
    assert "local-fs.target" in words(GUARD, "Unit", "After")
    assert words(GUARD, "Install", "WantedBy") == ["sysinit.target"]


def test_it_stays_closed_and_the_gateway_comes_after_it():
    service = unit(GUARD)["Service"]
    assert (service["Type"], service["RemainAfterExit"]) == ("oneshot", "yes")
    assert "ExecStop" not in service
    assert words(GUARD, "Service", "CapabilityBoundingSet") == ["CAP_NET_ADMIN"]
    for key in ("After", "Wants"):
        assert "ipsec-dp-guard@%i.service" in words(GATEWAY, "Unit", key)
    assert words(GATEWAY, "Install", "Also") == ["ipsec-dp-guard@%i.service"]
    assert "ipsec-dp@%i.service" in words(GUARD, "Unit", "Before")
