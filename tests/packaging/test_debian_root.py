"""`make dist`, and what comes of it on a Debian 12 made for the test from the archive. Needs root and the network."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.packaging.debian import ROOT
from tests.packaging.fresh_root import OUTSIDE

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1800)]
# Where the program runs: this test's own host, in which `demo` makes its namespaces.
HERE = ("env",)


def dist(output: Path) -> Path:
    command = (sys.executable, "-m", "tools.dist", "--output", output)
    subprocess.run(command, cwd=ROOT, env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}, check=True, capture_output=True)
    return output


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> Path:
    subprocess.run(["make", "man", "APT=0"], cwd=ROOT, env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}, check=True)
    return dist(tmp_path_factory.mktemp("dist") / "first")


def one(directory: Path, pattern: str) -> Path:
    (found,) = directory.glob(pattern)
    return found


def test_two_builds_are_the_same_octets(distributions, tmp_path):
    again = dist(tmp_path / "again")
    sums = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(each.iterdir())}
        for each in (distributions, again)
    ]
    assert sums[0] == sums[1]
    assert len(sums[0]) == 3


def test_the_wheel_needs_no_more_than_its_name_says(distributions, tmp_path):
    wheel = one(distributions, "*manylinux_*.whl")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command: list[str | Path] = [sys.executable, "-m", "auditwheel", "show", wheel]
    said = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True).stdout
    assert wheel.name.rpartition("-")[2].removesuffix(".whl") in said.replace("\n", " ")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path)
    assert [name for name in names if ".libs/libcrypto-" in name]
    assert [name for name in names if "/licenses/libssl" in name]
    program = "import sys; sys.path.insert(0, '.'); from ipsec_dp.__main__ import run; sys.argv[1:] = ['version', '--json']; run()"
    ran = subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    for library in json.loads(ran)["libraries"]:
        assert library["bundled"], library
        assert library["version"]


def test_lintian_finds_nothing(distributions, tmp_path):
    unpacked = tmp_path / "lintian"
    subprocess.run([*OUTSIDE, ROOT / "tools/packages.sh", "unpack", unpacked, "lintian"], check=True)
    usr = (unpacked if unpacked.exists() else Path("/")) / "usr"
    triplet = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
    perl = [
        usr / "share/perl5",
        *(usr / "lib" / triplet).glob("perl*/5.*"),
        *(usr / "share/perl").glob("5.*"),
        usr / "lib" / triplet / "perl-base",
    ]
    environment = os.environ | {
        "PERL5LIB": ":".join(map(str, perl)),
        "LINTIAN_BASE": str(usr / "share/lintian"),
        "LD_LIBRARY_PATH": str(usr / "lib" / triplet),
        "PATH": f"{usr / 'bin'}:{os.environ['PATH']}",
    }
    command = [
        "perl",
        usr / "bin/lintian",
        "--allow-root",
        "--fail-on",
        "error,warning",
        "--tag-display-limit",
        "0",
        one(distributions, "*.deb"),
    ]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, ""), said.stdout + said.stderr


def test_it_is_installed_runs_and_goes_without_a_trace(distributions, debian):
    """Its dependencies stay: they were installed before, as on a host that has them."""
    package = one(distributions, "*.deb")
    shutil.copy(package, debian.path / "root")
    depends = subprocess.run(["dpkg-deb", "-f", package, "Depends"], capture_output=True, text=True, check=True).stdout
    names = {text.split()[0] for text in depends.split(",")} | {"iproute2", "iputils-ping", "iperf3", "openssl", "tcpdump"}
    debian.run("apt-get", "update", "-qq")
    debian.run("apt-get", "install", "-qq", "-y", "--no-install-recommends", *sorted(names))
    before, enabled = debian.files(), debian.enabled()
    users = [(debian.path / "etc" / name).read_text() for name in ("passwd", "group")]

    debian.run("dpkg", "-i", f"/root/{package.name}")
    assert debian.enabled() == enabled
    assert "ipsec-dp" in (debian.path / "etc/passwd").read_text()
    assert debian.run("ipsec-dp", "version").startswith("ipsec-dp ")
    assert list((debian.path / "usr/lib/ipsec-dp").rglob("*.pyc"))
    debian.run(
        "sh", "-c", "umask 077; cp /usr/share/ipsec-dp/site-a.toml /etc/ipsec-dp; openssl rand -base64 32 >/etc/ipsec-dp/to-b.psk"
    )
    assert "good: 1 tunnel" in debian.run("ipsec-dp", "check", "/etc/ipsec-dp/site-a.toml")
    report = json.loads(debian.run("ipsec-dp", "demo", "--output", "/tmp/demo", "--json", outside=HERE))
    assert report

    debian.run("dpkg", "-r", "ipsec-dp")
    own = {"etc/ipsec-dp", "etc/ipsec-dp/README", "etc/ipsec-dp/site-a.toml", "etc/ipsec-dp/to-b.psk", "var/lib/ipsec-dp"}
    assert {name for name in debian.files() - before if not name.startswith("var/lib/dpkg/info/ipsec-dp.")} == own
    debian.run("dpkg", "-P", "ipsec-dp")
    assert debian.files() - before == set()
    assert [(debian.path / "etc" / name).read_text() for name in ("passwd", "group")] == users
