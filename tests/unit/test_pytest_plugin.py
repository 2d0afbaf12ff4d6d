"""The pytest plugin that comes with the package, as other people's tests have it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "ipsec_dp.rig.pytest_plugin"
HEAD = "import pytest\nfrom ipsec_dp.rig.packets import udp\nHELLO = udp('10.1.0.5', '10.2.0.5', b'hello')\n"


def run(directory: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """pytest in a directory of somebody else's, with this plugin alone."""
    (directory / "test_mine.py").write_text(HEAD + text)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", PLUGIN, "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)


def test_a_first_test_passes(tmp_path):
    done = run(
        tmp_path,
        """
def test_a_packet_arrives(ipsec_pair):
    a, b = ipsec_pair
    a.inject(HELLO)
    b.wait("packet")
    assert b.received() == [HELLO]


@pytest.mark.ipsec(wire={"loss": 0.2}, seed=7, tables='[tunnel.esp]\\nlifetime = "1h"')
def test_an_hour_on_a_bad_wire(ipsec_pair, ipsec_clock, ipsec_network):
    before = ipsec_pair.a.sas()[0].spi_in
    ipsec_clock.advance(3600)
    assert ipsec_pair.a.sas()[0].spi_in != before
    assert ipsec_clock.seed == 7
    assert len(ipsec_network.gateways) == 2
""",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 passed" in done.stdout


def test_a_failure_says_what_both_sides_did(tmp_path):
    done = run(
        tmp_path,
        """
def test_nothing_comes_back(ipsec_pair):
    a, b = ipsec_pair
    a.inject(HELLO)
    b.wait("packet")
    assert a.received() == [HELLO]


def test_that_has_no_gateway():
    assert False
""",
    )
    assert done.returncode == 1
    sections = dict(re.findall(r"^-+ (ipsec.*?) -+\n(.*?)(?=^[-_=]+ )", done.stdout, re.MULTILINE | re.DOTALL))
    assert sections.keys() == {
        *("ipsec a: events", "ipsec a: counters and SAs", "ipsec b: events", "ipsec b: counters and SAs", "ipsec: messages"),
    }
    for gateway in "ab":
        assert "CHILD_SA up" in sections[f"ipsec {gateway}: events"]
    assert "packets_out: 1" in sections["ipsec a: counters and SAs"]
    assert "packets_in: 1" in sections["ipsec b: counters and SAs"]
    assert "aes256gcm16" in sections["ipsec a: counters and SAs"]
    for message in ("IKE_SA_INIT", "IKE_AUTH", "ESP"):
        assert message in sections["ipsec: messages"]


def test_a_pair_that_does_not_come_up_says_why(tmp_path):
    done = run(tmp_path, "@pytest.mark.ipsec(wire={'loss': 1.0})\ndef test_it(ipsec_pair): ...\n")
    assert done.returncode == 1
    assert "IKE_SA_INIT" in done.stdout.split("ipsec: messages")[1]


def test_a_marker_says_what_it_takes(tmp_path):
    done = run(tmp_path, "@pytest.mark.ipsec(sed=7)\ndef test_it(ipsec_clock): ...\n")
    assert done.returncode == 1
    assert "the marker ipsec takes a, b, seed, tables, where, wire, not sed" in done.stdout
    assert "@pytest.mark.ipsec(seed=0" in run(tmp_path, "", "--markers").stdout


def test_nothing_is_loaded_before_a_test_asks():
    loaded = "import sys, ipsec_dp.rig.pytest_plugin; print([m for m in ('numpy', 'ipsec_dp._native') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pytest_finds_it_where_the_package_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"ipsec_dp": PLUGIN}


def test_where_gateways_are_is_said_by_marker_or_option(tmp_path):
    listed = (
        "@pytest.mark.ipsec(where='both')\ndef test_both(ipsec_pair): ...\ndef test_one(ipsec_network): ...\ndef test_none(): ...\n"
    )
    done = run(tmp_path, listed, "--collect-only", "--ipsec-in=netns")
    assert re.findall(r"::(\S+)", done.stdout) == ["test_both[memory]", "test_both[netns]", "test_one[netns]", "test_none"]
    assert re.findall(r"::(\S+)", run(tmp_path, listed, "--collect-only").stdout) == [
        *("test_both[memory]", "test_both[netns]", "test_one", "test_none"),
    ]
    wrong = run(tmp_path, "@pytest.mark.ipsec(where='here')\ndef test_it(ipsec_pair): ...\n")
    assert "where='here': write one of memory, netns, both" in wrong.stdout
