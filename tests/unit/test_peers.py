"""Where the programs of other implementations are found, and what they are run with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from ipsec_dp.rig import peers
from ipsec_dp.rig.peers import Daemon, PeerError, find, is_unpacked, version

if TYPE_CHECKING:
    from ipsec_dp.rig.netns import Namespace

NOWHERE = cast("Namespace", None)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host with bird and charon, beside which charon and openvpn are unpacked; what is in PATH there."""
    unpacked = tmp_path / "venv" / "peers"
    monkeypatch.setattr(peers, "UNPACKED", unpacked)
    for program in ("host/bird", "host/charon", f"venv/peers{tmp_path}/host/charon", f"venv/peers{tmp_path}/host/openvpn"):
        path = tmp_path / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o755)
    (unpacked / "packages").write_text("openvpn 2.6.14-0\nstrongswan-charon 5.9.8-5\n")
    return str(tmp_path / "host")


def test_they_are_unpacked_into_the_environment_that_runs_the_tests():
    assert Path(sys.prefix) / "peers" == peers.UNPACKED


@pytest.mark.parametrize(("program", "unpacked"), [("bird", False), ("charon", True), ("openvpn", True)])
def test_the_unpacked_program_comes_before_the_hosts(host, program, unpacked):
    path = find(program, "a-package", host)
    assert path == (f"{peers.UNPACKED}{host}/{program}" if unpacked else f"{host}/{program}")
    assert is_unpacked(path) == unpacked


def test_a_program_that_is_nowhere_is_named_with_what_brings_it_without_its_services(host):
    with pytest.raises(
        PeerError, match=r"wg is not installed: `make setup-dev` .*apt-get install -y --no-install-recommends wg-tools"
    ):
        find("wg", "wg-tools", host)


def test_the_version_is_that_of_what_is_unpacked(host):
    assert version("openvpn") == "openvpn 2.6.14-0"
    assert version("no-such-package") == ""


def test_an_unpacked_program_is_run_with_the_usr_beside_it(host, tmp_path):
    daemon = Daemon(NOWHERE, tmp_path / "a", {"A": "1"})
    assert daemon.argv(f"{host}/bird", "-f")[:2] == ["env", "A=1"]
    assert daemon.argv(f"{host}/bird", "-f")[-4:] == [str(tmp_path / "a/run"), "", f"{host}/bird", "-f"]
    daemon.unpacked = True
    covered = [str(tmp_path / "a/run"), str(peers.UNPACKED / "usr")]
    assert daemon.argv(find("openvpn", "openvpn", host), "-f")[-4:] == [*covered, f"{host}/openvpn", "-f"]
    assert daemon.argv("/tmp/copy-of-charon", "-f")[-4:] == [*covered, "/tmp/copy-of-charon", "-f"]
