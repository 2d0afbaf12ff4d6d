"""In a Debian of its own, made for the test from the archive: setting up enables nothing there. Needs the network."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.packaging.debian import ROOT
from tests.packaging.fresh_root import SUITES
from tests.packaging.test_distributions import NOT_SOURCE
from tests.packaging.test_packages import named
from tests.packaging.test_readme import blocks

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("debian", ["bookworm"], indirect=True)
def test_the_readme_leads_from_a_checkout_to_a_service(debian, tmp_path):
    """Its commands as they stand, but for starting it: no systemd runs in there."""
    install, _ = blocks("As a service")
    source = debian.path / "root/ipsec_dp"
    shutil.copytree(ROOT, source, ignore=NOT_SOURCE)
    debian.give_packages()
    debian.run("apt-get", "update", "-qq")
    debian.run("apt-get", "install", "-qq", "-y", "--no-install-recommends", "systemd", "python3-pip")
    assert "externally-managed-environment" in debian.run("sh", "-c", "pip install /root/ipsec_dp 2>&1", check=False)

    debian.run("bash", "-e", "-c", f"cd /root/ipsec_dp\n{install}")
    assert debian.run("ipsec-dp", "--version").startswith("ipsec-dp ")
    assert "good: 1 tunnel" in debian.run("ipsec-dp", "check", "/etc/ipsec-dp/site-a.toml")
    shutil.copy(debian.path / "opt/ipsec-dp/share/ipsec-dp/schema.json", tmp_path)
    for unit in ("ipsec-dp@site-a.service", "ipsec-dp-guard@site-a.service"):
        said = debian.run("sh", "-c", f"systemd-analyze verify /etc/systemd/system/{unit} 2>&1", check=False)
        assert not re.findall(r"ipsec-dp\S*:\d+:.*", said), said


@pytest.mark.parametrize("debian", SUITES, indirect=True)
def test_setting_up_enables_nothing(debian):
    setup = {"python3", "python3-venv", "python3-dev", *named("install", "setup")}
    before, start = debian.enabled(), debian.packages()
    debian.run("/src/tools/packages.sh", "install", *sorted(setup))
    assert debian.enabled() == before
    assert debian.packages() - start <= 95
    debian.run("/src/tools/packages.sh", "install", *sorted(named("install", "setup-dev")))
    debian.run("/src/tools/packages.sh", "unpack", "/src/peers", *sorted(named("unpack", "setup-dev")))
    newer = [name.strip("'") for name in named("unpack-suite", "setup-dev") - {"forky", "build/strongswan6"}]
    debian.run("/src/tools/packages.sh", "unpack-suite", "forky", "/src/strongswan6", *sorted(newer))
    assert (debian.path / "src/strongswan6/usr/lib/ipsec/charon").exists()
    assert debian.enabled() == before
    for program in ("sbin/bird", "sbin/swanctl", "lib/ipsec/charon", "sbin/openvpn", "bin/wireguard-go", "bin/wg"):
        assert (debian.path / "src/peers/usr" / program).exists(), program

    debian.run("apt-get", "install", "-qq", "-y", "--no-install-recommends", "bird2")
    assert "etc/systemd/system/multi-user.target.wants/bird.service" in debian.enabled() - before
