"""The trial of the offloads on this kernel: it is over at once, finds nothing wrong, and nobody else sees anything of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ipsec_dp.host.super_packets import KINDS, OffloadTrial
from tests.netns.traffic import until

pytestmark = pytest.mark.netns


def seen() -> tuple[list[str], bytes]:
    """The interfaces of this namespace, and how packets are forwarded in it."""
    return [name for _, name in socket.if_nameindex()], Path("/proc/sys/net/ipv4/ip_forward").read_bytes()


def test_this_kernel_does_what_it_says_and_nobody_sees_it_asked():
    before = seen()
    trial = OffloadTrial.start()
    try:
        found = trial.result(30)
        assert found.wrong == {}
        assert {"tun_tso4", "tun_tso6"} <= set(found.tried) <= {kind.offload for kind in KINDS}
        assert seen() == before
    finally:
        trial.close()
    until(lambda: seen() == before, "nothing is left")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
