"""What `make setup` and `make setup-dev` do to the host: no service comes of it, locks are waited for, nothing is asked twice."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.packaging.debian import ROOT, Debian, contents
from tests.packaging.openpgp import Signer

DEV_TARGETS = "setup-dev test test-unit test-interop test-netns test-slow mutants asan tsan fuzz lint bench bench-tunnel".split()
INFO = Path("/var/lib/dpkg/info")
# debhelper's snippets that enable a service when its package is first installed, for systemd and for the other init systems.
ARMS = re.compile(r"was-enabled defaults to true|update-rc\.d \S+ defaults(?!-disabled)")
# Name -> why its snippet does not run.
UNARMED = {"iperf3": "only where the administrator answered debconf's question iperf3/start_daemon with yes"}


@pytest.fixture
def debian(tmp_path: Path) -> Debian:
    return Debian(tmp_path)


@cache
def dry_run(target: str) -> str:
    return subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout


def named(verb: str, target: str) -> set[str]:
    """The packages that a target has tools/packages.sh install or unpack."""
    return {name for names in re.findall(rf"packages\.sh {verb} (.*)", dry_run(target)) for name in names.split()} - {".venv/peers"}


# ---- no service comes of it ------------------------------------------------------------------------------------------------------


def test_what_is_unpacked_leaves_the_host_as_it_was(debian, tmp_path):
    before, peers = contents(debian.root), tmp_path / "venv" / "peers"
    done = debian.run("unpack", str(peers), "serviced")
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(debian.root) == before
    assert (peers / "usr/sbin/serviced").stat().st_mode & 0o7777 == 0o755  # it was setuid
    assert (peers / "usr/lib/libserviced.so").is_file()  # what it depends on, and merged as the host's /usr is
    assert not (peers / "etc").exists()
    assert (peers / "packages").read_text().split("\n") == ["libserviced 2", "serviced 1", ""]

    debian.arm()
    assert {name.rpartition("/")[2] for name in contents(debian.root).keys() - before.keys()} == {"serviced.service", "S01serviced"}


def test_a_service_that_is_there_on_purpose_stays_as_it_is_and_its_package_is_used(debian, tmp_path):
    debian.installed("serviced", "libserviced")
    debian.arm()
    before = contents(debian.root)
    done = debian.run("unpack", str(tmp_path / "peers"), "serviced", "libserviced")
    assert (done.returncode, done.stdout) == (0, "")
    assert contents(debian.root) == before
    assert not (tmp_path / "peers").exists()


def test_a_host_that_has_only_some_of_them_gets_all_that_work_together(debian, tmp_path):
    debian.installed("libserviced")
    debian.run("unpack", str(tmp_path / "peers"), "serviced", "libserviced")
    assert (tmp_path / "peers/packages").read_text().split("\n") == ["libserviced 2", "serviced 1", ""]


def test_it_is_unpacked_once_and_anew_when_the_list_changes(debian, tmp_path):
    peers = tmp_path / "peers"
    assert "Unpacking" in debian.run("unpack", str(peers), "libserviced").stdout
    assert debian.run("unpack", str(peers), "libserviced").stdout == ""
    assert "Unpacking" in debian.run("unpack", str(peers), "libserviced", "serviced").stdout
    assert (peers / "usr/sbin/serviced").exists()


def test_what_cannot_be_fetched_is_said_and_what_was_there_stays(debian, tmp_path):
    peers = tmp_path / "peers"
    debian.run("unpack", str(peers), "libserviced")
    done = debian.run("unpack", str(peers), "no-such-package")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "These packages could not be fetched, as apt says above: no-such-package"
    assert (peers / "usr/lib/libserviced.so").is_file()


# ---- from another suite of Debian's ----------------------------------------------------------------------------------------------


def from_suite(debian, root, *names, suite="newer", **variables):
    variables = {"DEBIAN_MIRROR": f"file:{debian.directory}/mirror", "KEYRING": str(debian.directory / "newer.gpg")} | variables
    return debian.run("unpack-suite", suite, str(root), *names, **variables)


def test_another_suite_is_unpacked_once_whatever_the_host_has(debian, tmp_path):
    debian.suite("newer")
    debian.installed("serviced", "libserviced")
    before, root = contents(debian.root), tmp_path / "newer"
    done = from_suite(debian, root, "serviced>=1", "libserviced")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Unpacking from Debian's newer (file:{debian.directory}/mirror) into {root}, where they start")
    assert contents(debian.root) == before
    assert (root / "packages").read_text().split("\n") == ["libserviced 2", "serviced 1", ""]
    assert (root / "usr/sbin/serviced").stat().st_mode & 0o7777 == 0o755
    debian.stub("apt-get", "echo asked; exit 1\n")
    done = from_suite(debian, root, "serviced>=1", "libserviced")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert from_suite(debian, root, "serviced", "libserviced", suite="another").returncode == 1  # whoever is asked for, fails


def test_a_suite_that_another_key_signed_is_refused(debian, tmp_path):
    debian.suite("newer")
    (debian.directory / "another.gpg").write_bytes(Signer().keyring)
    done = from_suite(debian, tmp_path / "newer", "libserviced", KEYRING=str(debian.directory / "another.gpg"))
    assert done.returncode == 1
    assert "NO_PUBKEY" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("a newer debian-archive-keyring, or its file in KEYRING.")
    assert not (tmp_path / "newer").exists()


def test_a_suite_that_was_changed_after_it_was_signed_is_refused(debian, tmp_path):
    debian.suite("newer")
    release = debian.directory / "mirror/dists/newer/Release"
    release.write_text(release.read_text().replace("Origin: Debian", "Origin: Nobody"))
    done = from_suite(debian, tmp_path / "newer", "libserviced")
    assert done.returncode == 1
    assert "BADSIG" in done.stderr
    assert not (tmp_path / "newer").exists()


def test_without_a_keyring_it_says_what_brings_one(debian, tmp_path):
    done = from_suite(debian, tmp_path / "newer", "libserviced")
    assert (done.returncode, done.stdout) == (1, "")
    assert "apt-get install debian-archive-keyring" in done.stderr


def test_a_suite_that_has_gone_is_said_with_what_to_change(debian, tmp_path):
    debian.suite("newer")
    done = from_suite(debian, tmp_path / "gone", "libserviced", suite="gone")
    assert done.returncode == 1
    assert "does not have a Release file" in done.stderr
    assert "another mirror in DEBIAN_MIRROR (old releases are at http://archive.debian.org/debian), or another suite" in done.stderr


def test_a_suite_that_has_only_an_older_version_is_refused(debian, tmp_path):
    debian.suite("newer")
    done = from_suite(debian, tmp_path / "newer", "serviced>=1.1")
    assert done.returncode == 1
    assert done.stderr == "Debian's newer has serviced 1, and 1.1 or newer is needed: name a newer suite in the Makefile.\n"
    assert not list(tmp_path.glob("newer*/usr"))


# ---- what enables a service ------------------------------------------------------------------------------------------------------


def with_dependencies(names: set[str]) -> set[str]:
    """These packages and what they depend on, as far as it is installed and not part of every Debian."""
    listed = subprocess.run(
        ("dpkg-query", "-W", "-f", "${Package}\t${Essential}\t${Depends}, ${Pre-Depends}\n"),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    depends = {
        package: set(re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9.+-]*)", text))
        for package, essential, text in (line.split("\t") for line in listed.splitlines())
        if essential != "yes"
    }
    found, ahead = set(), set(names)
    while ahead:
        found |= ahead
        ahead = {name for one in ahead for name in depends.get(one, ())} & depends.keys() - found
    return found


def arms(package: str) -> bool:
    scripts = (*INFO.glob(f"{package}.postinst"), *INFO.glob(f"{package}:*.postinst"))
    return any(ARMS.search(script.read_text(errors="replace")) for script in scripts)


def test_no_package_that_is_installed_for_the_tests_enables_a_service():
    """As their maintainer scripts say, on this host: after `make setup-dev` it has them all."""
    names = named("install", "setup-dev")
    absent = [name for name in names if not list(INFO.glob(f"{name}.list")) + list(INFO.glob(f"{name}:*.list"))]
    assert absent == []
    every = with_dependencies(names)
    assert len(every) > 2 * len(names)
    assert {name for name in every if arms(name)} == UNARMED.keys()


@pytest.mark.parametrize(
    ("snippet", "enables"),
    [
        ("\tupdate-rc.d bird defaults >/dev/null\n", True),
        ("\t# was-enabled defaults to true, so new installations run enable.\n\tif deb-systemd-helper --quiet was-enabled", True),
        ("\tif deb-systemd-helper debian-installed 'nftables.service'; then\n\t\tdeb-systemd-helper update-state", False),
        ("\tupdate-rc.d openvpn defaults-disabled >/dev/null\n", False),
    ],
)
def test_debhelpers_snippets_are_told_apart(snippet, enables):
    assert bool(ARMS.search(snippet)) == enables


# ---- what which target asks for --------------------------------------------------------------------------------------------------


def test_setup_installs_what_building_and_running_need():
    building = {"gcc", "libc6-dev", "libssl-dev", "libipsec-mb-dev", "python3", "python3-venv", "python3-dev"}
    assert named("install", "setup") <= building | {"nftables"}
    assert named("unpack", "setup") == set()
    assert named("install", "demo") <= building | {"nftables", "iproute2", "iputils-ping", "iperf3"}
    assert named("unpack", "demo") == set()
    assert named("unpack-suite", "setup") == named("unpack-suite", "demo") == set()


@pytest.mark.parametrize("target", DEV_TARGETS)
def test_what_tests_measures_or_lints_sets_up_all_that_it_needs(target):
    assert named("install", target) >= named("install", "setup-dev") >= named("install", "demo")
    assert named("unpack", target) == named("unpack", "setup-dev") >= {"strongswan-charon", "bird2", "openvpn", "wireguard-go"}
    assert named("unpack-suite", target) >= {"forky", "build/strongswan6", "'strongswan-charon>=6.1'", "strongswan-swanctl"}


def test_the_benchmark_alone_meets_the_wireguard_go_of_debian_13():
    newer = {"trixie", "build/wireguard13", "'wireguard-go>=0.0.20231211'", "wireguard-tools"}
    assert named("unpack-suite", "bench-tunnel") >= newer
    assert not named("unpack-suite", "setup-dev") & newer


# ---- what is installed -----------------------------------------------------------------------------------------------------------


def test_what_is_missing_is_installed_and_the_line_is_printed_first(debian):
    done = debian.run("install", "serviced", "libserviced")
    line = "apt-get update -qq; apt-get install -qq -y --no-install-recommends serviced libserviced"
    assert done.stdout.splitlines()[0] == f"Missing Debian packages. Running:  {line}"
    assert done.returncode == 0
    assert "serviced.deb" in debian.given_to_dpkg()


@pytest.mark.parametrize("verb", [("install",), ("unpack", "peers")])
def test_apt_is_not_asked_for_what_is_there(debian, verb):
    debian.installed("serviced")
    debian.stub("apt-get", "echo asked; exit 1\n")
    done = debian.run(*verb, "serviced")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert debian.run(*verb, "libserviced").returncode == 1  # whoever is asked for, fails


@pytest.mark.parametrize("verb", [("install",), ("unpack", "peers"), ("unpack-suite", "newer", "peers")])
def test_apt_0_says_what_is_missing_and_does_nothing(debian, verb):
    debian.stub("apt-get", "echo asked; exit 1\n")
    done = debian.run(*verb, "serviced", APT="0")
    assert done.returncode == 0
    assert re.match("Missing (Debian packages|packages of Debian's newer);", done.stdout)
    assert done.stdout.endswith(" serviced\n")


def test_without_root_it_is_sudo_that_runs_apt(debian):
    debian.stub("id", "echo 1000\n")
    debian.stub("sudo", f'echo "$*" >>{debian.directory}/sudo.log\n')
    done = debian.run("install", "serviced")
    assert "sudo apt-get update -qq; sudo apt-get install" in done.stdout
    assert (debian.directory / "sudo.log").read_text().count("apt-get") == 2


def test_without_root_and_sudo_it_says_what_to_run(debian):
    debian.stub("id", "echo 1000\n")
    done = debian.run("install", "serviced")
    line = "apt-get update -qq; apt-get install -qq -y --no-install-recommends serviced"
    assert (done.returncode, done.stdout) == (0, f"Missing Debian packages, and neither root nor sudo. As root:  {line}\n")
    assert debian.given_to_dpkg() == ""


def test_a_package_that_does_not_exist_is_a_failure_at_once(debian):
    done = debian.run("install", "no-such-package")
    assert done.returncode == 1
    assert "Unable to locate package no-such-package" in done.stderr
    assert "apt is busy" not in done.stdout


def test_a_source_that_is_out_of_order_hinders_nothing(debian):
    sources = debian.root / "etc/apt/sources.list"
    sources.write_text(f"{sources.read_text()}deb file:{debian.directory}/nowhere ./\n")
    assert debian.run("install", "serviced").returncode == 0
    assert "serviced.deb" in debian.given_to_dpkg()


# ---- another apt is at work ------------------------------------------------------------------------------------------------------

LOCKS = ("lists", "archives", "frontend", "dpkg")


@pytest.mark.parametrize("lock", LOCKS)
def test_a_held_lock_is_waited_for_with_a_line_that_names_who_holds_it(debian, lock):
    with debian.held(lock) as holder:
        process = debian.start("install", "serviced")
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Missing Debian packages")
        told = process.stdout.readline()
        assert told.startswith(f"apt is busy: {debian.locks[lock]} is held by process {holder.pid} (")
        assert told.endswith("). Waiting for it, at most 600 s.\n")
        assert debian.given_to_dpkg() == ""
        holder.communicate()  # it ends
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "busy" not in out  # told once
    assert "serviced.deb" in debian.given_to_dpkg()


@pytest.mark.parametrize("lock", LOCKS)
def test_it_is_not_waited_for_for_ever(debian, lock):
    with debian.held(lock) as holder:
        done = debian.run("install", "serviced", APT_WAIT="1")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Still busy after 1 s: {debian.locks[lock]} is held by process {holder.pid} (")
    assert line.endswith("Wait until that process has ended, then run this again (APT_WAIT=1800 waits longer).")
    assert debian.given_to_dpkg() == ""


@pytest.mark.parametrize("lock", LOCKS)
def test_nobodys_lock_is_in_the_way_of_unpacking(debian, tmp_path, lock):
    with debian.held(lock):
        done = debian.run("unpack", str(tmp_path / "peers"), "serviced", APT_WAIT="0")
    assert (done.returncode, done.stderr) == (0, "")
