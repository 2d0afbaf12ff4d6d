"""A TUN device and an outer socket go to another process and back, while packets cross both ways: none is lost, none comes twice.

a ipsec0 -- data plane of one process, then of another -- wan == wan -- data plane -- ipsec0 b
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ipsec_dp.dataplane import ALL_OFFLOADS, Offload
from ipsec_dp.rig.netns import Port
from tests.netns import harness, heirs
from tests.netns.heirs import INNER, OUTER, Tunnel
from tests.netns.numbered import numbered
from tests.netns.traffic import tcp_both_ways, until

ROOT = Path(__file__).parents[2]
MOVES = 2  # there and back
GAP_MS = 5000.0  # under a test's load; what it takes is measured elsewhere
FAR = {"a": "b", "b": "a"}


@pytest.fixture
def ends(lab):
    """By side: its namespace, TUN device and outer socket."""
    spaces = {side: lab.namespace(side) for side in OUTER}
    left, right = (Port(spaces[side], "wan", (f"{OUTER[side]}/24",)) for side in OUTER)
    lab.link(left, right)
    found = {}

    def outer(side):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        made.bind((OUTER[side], heirs.PORT))
        return made

    for side, space in spaces.items():
        tun = harness.tun(space, "ipsec0", (f"{INNER[side]}/32",), vnet_header=True)
        space.ip(f"route add {INNER[FAR[side]]}/32 dev ipsec0 src {INNER[side]}", "link set ipsec0 txqueuelen 4096")
        found[side] = (space, tun, space.call(lambda side=side: outer(side)))
    yield found
    for _, tun, socket_ in found.values():
        tun.close()
        socket_.close()


@pytest.fixture
def heir():
    """A process that takes a tunnel, and gives it back when asked: our end of the socket pair."""
    ours, its = socket.socketpair()
    argv = [sys.executable, "-m", "tests.netns.heirs", str(its.fileno())]
    with ours, subprocess.Popen(argv, cwd=ROOT, pass_fds=[its.fileno()]) as process:
        its.close()
        ours.settimeout(20.0)
        yield ours
        ours.close()
        process.wait(10)


def start(ends, side):
    _, tun, outer = ends[side]
    made = Tunnel(side, tun.descriptors[0], outer.fileno())
    made.install()
    return made


def flows(streams, by):
    """A while of both, carried by the process that has the tunnel now."""
    enough = [len(each.arrived) + 200 for each in streams]
    until(lambda: all(len(each.arrived) > least for each, least in zip(streams, enough, strict=True)), f"packets by {by}")


@pytest.mark.parametrize("tun", [ALL_OFFLOADS, Offload(0)], ids=["offloads", "none"])
def test_nothing_is_lost_while_a_tunnel_goes_to_another_process_and_back(ends, heir, tun):
    """Nor is anything of the device changed under the hands of the one that still reads it: what is off stays off."""
    near, far = start(ends, "a"), start(ends, "b")
    near.plane.set_tun_offloads(0, tun)
    on = near.on
    assert bool(on[0]) is bool(tun)
    here, beyond = ends["a"][0], ends["b"][0]
    with (
        numbered(here, beyond, INNER["b"], pause_s=0.0005) as there,
        numbered(beyond, here, INNER["a"], pause_s=0.0005) as back,
    ):
        until(lambda: there.arrived and back.arrived, "a stream")
        for _ in range(MOVES):
            assert heirs.give(near, heir) < GAP_MS
            flows((there, back), "the other process")
            heirs.send_message(heir, heirs.GIVE)
            near = heirs.take(heir)
            flows((there, back), "this process")
    assert near.on == on
    for stream in (there, back):
        assert (stream.lost(), stream.repeated) == ([], 0)
    counted = near.carried_of(), far.carried_of()
    assert counted[0] == {"OUTBOUND": len(there.arrived), "INBOUND": len(back.arrived)}
    assert counted[1] == {"OUTBOUND": len(back.arrived), "INBOUND": len(there.arrived)}
    tcp_both_ways(here, beyond, INNER["b"])  # super-packets, with the header that the device was made with
    for tunnel in (near, far):
        tunnel.plane.close()
