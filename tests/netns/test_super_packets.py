"""The trial of the offloads on this kernel finds nothing wrong, and nobody else sees anything of it."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ipsec_dp.host.super_packets import KINDS, OffloadFaults

pytestmark = pytest.mark.netns

# In a process of its own as a gateway has one, but without its alarm, and with patience for a busy machine.
TRIAL = """
import sys
import msgspec
from ipsec_dp.host import super_packets
super_packets.ARRIVE_S = 60.0
sys.stdout.buffer.write(msgspec.json.encode(super_packets.find_out()))
"""


def seen() -> tuple[list[str], bytes]:
    """The interfaces of this namespace, and how packets are forwarded in it."""
    return [name for _, name in socket.if_nameindex()], Path("/proc/sys/net/ipv4/ip_forward").read_bytes()


def test_this_kernel_does_what_it_says_and_nobody_sees_it_asked():
    before = seen()
    with subprocess.Popen([sys.executable, "-c", TRIAL], stdout=subprocess.PIPE) as process:
        answer, _ = process.communicate()
    found = msgspec.json.decode(answer, type=OffloadFaults)
    assert found.wrong == {}
    assert {"tun_tso4", "tun_tso6"} <= set(found.tried) <= {kind.offload for kind in KINDS}, found.untried
    assert seen() == before
