"""Where nothing limits how much memory may be locked, no key of a gateway's reaches swap: neither the data plane's, nor IKE's, nor
what an upgrade hands over.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ipsec_dp.host.privilege import SYS_RESOURCE, has
from ipsec_dp.rig import netns
from ipsec_dp.rig.process import IkePair
from tests.netns import upgrade_faults
from tests.netns.traffic import ping

RAISES = has(SYS_RESOURCE)  # or a program stands in that may lock all the same
STACK_KIB = 1024  # of which a thread touches a part


@pytest.fixture
def sites(sites_opened_again):
    return sites_opened_again


def sizes(process):
    """The rows of /proc/PID/status that are sizes, in KiB."""
    rows = (line.split() for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) for row in rows if row[-1] == "kB"}


def mappings(process):
    """Of /proc/PID/smaps: what each is, its sizes in KiB, its flags."""
    found: list[tuple[str, dict[str, int], set[str]]] = []
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            found.append((line, {}, set()))
        elif name == "VmFlags:":
            found[-1][2].update(values)
        elif values[-1] == "kB":
            found[-1][1][name.rstrip(":")] = int(values[0])
    return found


def assert_all_locked(process):
    """And no more than what is touched: stacks and rings are larger than that by far."""
    assert [line for line, size, flags in mappings(process) if size["Anonymous"] and "lo" not in flags] == []
    found = sizes(process)
    assert found["VmLck"] >= found["RssAnon"] > 0
    threads = len(os.listdir(f"/proc/{process}/task"))
    assert found["VmRSS"] < found["VmLck"] - (threads - 1) * STACK_KIB, found


def test_all_memory_of_a_gateway_is_locked_and_all_of_its_successors(sites, in_succession, faulty):
    upgraded = in_succession(IkePair(), *(() if RAISES else upgrade_faults.of(upgrade_faults.LOCKS_ALL)))
    ping(sites.host_a, netns.HOST_B[0])
    assert_all_locked(upgraded.a.process.pid)
    assert upgraded.a.status()["keys"]["ike_locked"]
    for _ in range(2):
        upgraded.upgrade(program=None if RAISES else faulty(upgrade_faults.LOCKS_ALL))
        upgraded.answers()
        assert_all_locked(upgraded.processes[-1])
        assert upgraded.a.status()["keys"]["ike_locked"]
        ping(sites.host_a, netns.HOST_B[0])
