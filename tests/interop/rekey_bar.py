"""A numbered stream through our gateway and strongSwan while SAs are replaced, and where each missing number was lost.

hostA -- gwA (ours) wan == wan gwB (charon) -- hostB

Both outer ends are captured. Towards the peer, what left gwA and arrived at gwB but did not come out at hostB was lost in the peer;
from the peer, what hostB sent but never left gwB was. What is missing elsewhere is ours, or the wire's.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from benchmarks.tunnels import generator
from ipsec_dp.bench.traffic import Traffic
from ipsec_dp.rig import netns
from ipsec_dp.rig.capture import Capture, esp_packets
from tests.netns import harness

if TYPE_CHECKING:
    from pathlib import Path

    from ipsec_dp.rig.netns import Namespace
    from tests.interop.strongswan_meeting import Meeting

PORT = 5001
OCTETS = 1400  # of each IPv4 packet of the stream
KEPT = 80  # octets kept of each captured frame: all headers up to that of ESP
DRAIN_S = 0.5  # of silence, after which a busy peer has nothing in its queues
FOUND = ("unknown_spi", "no_sa", "replay", "too_old")  # reasons of ours that must not occur
DIRECTIONS = ("to the peer", "from the peer")


@dataclass(frozen=True)
class Crossing:
    """Packets of one stream, counted along its way. `ours` and `theirs`: ESP seen at the outer ends of gwA and of gwB."""

    direction: str
    seconds: float
    sent: int
    ours: int
    theirs: int
    received: int
    duplicates: int
    uncaptured: int  # frames that a capture could not keep: then nothing is shown

    @property
    def mbit_per_s(self) -> float:
        return self.sent * OCTETS * 8 / self.seconds / 1e6

    @property
    def missing(self) -> int:
        return self.sent - self.received

    @property
    def steps(self) -> dict[str, int]:
        """How many were lost in each part of the way."""
        if self.direction == DIRECTIONS[0]:
            return {"us": self.sent - self.ours, "wire": self.ours - self.theirs, "peer": self.theirs - self.received}
        return {"peer": self.sent - self.theirs, "wire": self.theirs - self.ours, "us": self.ours - self.received}


def loss_free_rate(meeting: Meeting, seconds: float) -> float:
    """Packets a second that pass both gateways towards hostB without loss; the peer is the slower one."""
    return generator.search(meeting.sites, Traffic(str(OCTETS)), seconds, None)


def cross(meeting: Meeting, direction: str, rate: float, seconds: float, directory: Path) -> Crossing:
    """Sends `rate` packets a second for so long, with both outer ends captured."""
    sites = meeting.sites
    ends = [(sites.host_a, netns.HOST_A[0]), (sites.host_b, netns.HOST_B[0])]
    (source, _), (target, address) = ends if direction == DIRECTIONS[0] else reversed(ends)
    outer = {label: directory / label for label in ("ours", "theirs")}
    with ExitStack() as stack:
        recordings = [
            stack.enter_context(Capture(gateway, "wan", outer[label], KEPT))
            for label, gateway in (("ours", sites.gw_a), ("theirs", sites.gw_b))
        ]
        sent, received = _stream(source, target, address, rate, seconds)
        uncaptured = sum(recording.stop().lost for recording in recordings)
    sender = meeting.agreement.outer[direction == DIRECTIONS[1]]
    ours, theirs = (_sealed(path, sender) for path in outer.values())
    return Crossing(
        direction, sent["seconds"], sent["sent"], ours, theirs, received["received"], received["duplicates"], uncaptured
    )


def _stream(source: Namespace, target: Namespace, address: str, rate: float, seconds: float) -> tuple[dict, dict]:
    run, planned = str(secrets.randbits(63)), int(2 * rate * seconds)
    program, pipe = str(generator.PROGRAM), subprocess.PIPE
    receiver = target.spawn(program, "receive", str(PORT), str(planned), str(planned), run, stdout=pipe, stderr=pipe)
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == b"ready\n"
    load = (str(OCTETS), str(int(rate)), f"{seconds:g}", "1", run)
    sender = source.spawn(program, "send", address, str(PORT), *load, stdout=pipe, stderr=pipe)
    sent = json.loads(sender.communicate(timeout=seconds + 30)[0])
    harness.settle(target, "eth0", DRAIN_S)
    receiver.terminate()
    return sent, json.loads(receiver.communicate(timeout=10)[0])


def _sealed(path: Path, sender: str) -> int:
    """How many different ESP packets of the stream's size crossed. AssertionError for a super-packet: it would hide several."""
    address = ip_address(sender).packed
    seen = set()
    for packet in esp_packets(path):
        assert packet.octets <= 1500, f"{packet}: segments were not apart yet"
        if packet.source == address and packet.octets > OCTETS:
            seen.add((packet.spi, packet.sequence))
    return len(seen)
