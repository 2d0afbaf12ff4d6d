"""A data plane with a seed: the same octets at each run, in rigs alone."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from ipsec_dp.dataplane import DataPlane, Df, Encapsulation, Endpoint, Outer, SaHandle
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.rig.gateway import pair
from tests.unit.sites import to_b

LOOPBACK = Endpoint(ipaddress.ip_address("127.0.0.1"), 4500)
SIZES: dict[str, Any] = {"sa_slots": 256, "tunnels": 1, "interfaces": 1}
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
PRINT = "from tests.unit.test_seeded_plane import sent; print(sent(7))"


def sent(seed: int | None, suite: str = "aes128-sha256-esn", rekeys: int = 1) -> list[tuple[bytes, int]]:
    """What leaves site a over IPv6: ESP, and the flow label of each."""
    with pair(suite, outer=6, settings={"outer": Outer.FLOW_LABEL}, seed=seed) as site:
        for _ in range(rekeys):
            site.a.push(*(to_b(bytes(40), ports=(number, 53)) for number in range(1, 5)))
            site.a.step()
            site.install_inbound()
            site.switch()
        return [(datagram.data, datagram.flow_label) for datagram in site.a.sent()]


@pytest.mark.parametrize("suite", ["aes128-sha256-esn", "aes256gcm16", "chacha20poly1305"])
def test_the_same_seed_makes_the_same_octets_and_flow_labels(suite):
    assert sent(7, suite, rekeys=3) == sent(7, suite, rekeys=3)


def test_in_another_process_too():
    elsewhere = subprocess.run([sys.executable, "-c", PRINT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert elsewhere.stdout.strip() == repr(sent(7))


@pytest.mark.parametrize("other", [8, 0, 2**64 - 1, None])
def test_another_seed_or_none_makes_others(other):
    ours, theirs = sent(7), sent(other)
    assert not {data for data, _ in ours} & {data for data, _ in theirs}
    assert {label for _, label in ours} != {label for _, label in theirs}


def test_without_a_seed_no_two_runs_are_alike():
    assert sent(None) != sent(None)


def test_no_iv_comes_twice():
    """Those of one SA, and of its successors (RFC 3602 §3)."""
    ivs = [data[8:24] for data, _ in sent(7, rekeys=50)]
    assert len(set(ivs)) == len(ivs) == 200


@pytest.mark.parametrize("bad", [-1, 2**64])
def test_a_seed_has_64_bits(bad):
    with pytest.raises(ValueError, match="a seed is a number of 64 bits"):
        DataPlane(**SIZES, seed=bad)


@pytest.mark.parametrize("seed", [None, 7])
def test_a_seeded_plane_gets_no_real_device(seed):
    """What it sends can be foreseen. The control: one without a seed takes all three."""
    ours, theirs = socket.socketpair()
    with DataPlane(**SIZES, seed=seed) as plane, ours, theirs, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        for attach in (
            lambda: plane.attach_tun(0, ours.fileno()),
            lambda: plane.attach_link(Encapsulation.UDP, LOOPBACK, udp.fileno(), Df.COPY),
            lambda: plane.attach_ike(LOOPBACK, udp.fileno()),
        ):
            if seed is None:
                attach()
                continue
            with pytest.raises(DataPlaneError) as caught:
                attach()
            assert caught.value.errno == errno.EPERM


def test_a_seeded_plane_takes_devices_in_memory():
    with DataPlane(**SIZES, seed=7) as plane:
        plane.attach_memory_tun(0)
        assert plane.attach_memory_link(Encapsulation.UDP, LOOPBACK) == 0


def test_numbers_are_skipped_in_a_rig_alone():
    with pair("aes128gcm16", seed=7) as site:
        plane, outbound, last = site.a.plane, site.outbound("a"), 2**32 - 1
        plane.skip(outbound, 5)
        assert plane.read_sa(outbound).sequence == 5
        for handle, packets, error in ((outbound, last - 4, errno.ERANGE), (outbound + (1 << 32), 1, errno.ENOENT)):
            with pytest.raises(DataPlaneError) as refused:
                plane.skip(SaHandle(handle), packets)
            assert refused.value.errno == error
        plane.skip(outbound, last - 5)
        assert plane.read_sa(outbound).sequence == last
    with pair("aes128gcm16") as site, pytest.raises(DataPlaneError) as refused:
        site.a.plane.skip(site.outbound("a"), 5)
    assert refused.value.errno == errno.EPERM
