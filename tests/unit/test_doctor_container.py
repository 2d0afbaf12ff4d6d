"""`ipsec-dp doctor` where a container runtime keeps things back."""

from __future__ import annotations

import shutil

import pytest

from ipsec_dp.cli import network_checks
from ipsec_dp.cli.checks import Host
from ipsec_dp.host import nft_state, probe

UNIX = "Num       RefCount Protocol Flags    Type St Inode Path\n0: 2 0 10000 1 1 7 @{}\n0: 2 0 0 1 1 8 /run/x\n0: 2 0 0 1 3 9\n"


@pytest.mark.parametrize(("name", "state"), [("ipsec-dp/site-a", "ok"), ("dbus/ipsec-dp/site-a", "fail")])
def test_the_ports_of_a_gateway_that_nobody_may_look_into_are_no_fault(monkeypatch, tmp_path, name, state):
    monkeypatch.setattr(probe, "udp_port_free", lambda _: False)
    monkeypatch.setattr(probe, "udp_port_owners", lambda _: [])
    table = tmp_path / "proc/thread-self/net/unix"
    table.parent.mkdir(parents=True)
    table.write_text(UNIX.format(name))
    found = network_checks.ports(Host(tmp_path))
    assert [each.state for each in found] == [state] * 2
    assert ("site-a" in found[0].found) is (state == "ok")


def test_a_kernel_without_nftables_has_no_guard_although_nft_is_there(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/usr/sbin/nft")
    assert [each.state for each in network_checks.nftables(Host(tmp_path))] == ["ok"]

    class Refused(nft_state.NftState):
        def __init__(self) -> None:
            raise nft_state.NoNftablesError("Protocol not supported")

    monkeypatch.setattr(nft_state, "NftState", Refused)
    (finding,) = network_checks.nftables(Host(tmp_path))
    assert (finding.state, finding.found) == ("fail", "this kernel has no nftables")


def test_settings_that_cannot_be_written(monkeypatch, tmp_path):
    assert [each.state for each in network_checks.settings(Host(tmp_path))] == ["ok"]
    monkeypatch.setattr(Host, "is_read_only", lambda _, path: path == "proc/sys")
    (finding,) = network_checks.settings(Host(tmp_path))
    assert (finding.state, "--sysctl" in finding.remedy) == ("warn", True)
