"""A stream between the hosts while a tunnel's keys change, counted on both sides of our gateway.

strongSwan's userspace ESP takes an outbound SA away before the next one is there: what it loses then never comes to us as ESP.
"""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Self

from ipsec_dp.rig import netns
from tests.interop.strongswan_meeting import POLL_S

if TYPE_CHECKING:
    from tests.interop.strongswan_meeting import Meeting

STREAM_INTERVAL_S = 0.005
LAST_ANSWER_S = 5.0  # how long an answer may be on its way, and be counted after that
PEER_DELIVERS = 0.5  # the part of a stream that strongSwan does not lose itself, which is more where it waits for a processor


class Stream:
    """Echo requests from hostA to hostB while it is entered; afterwards it is certain that our gateway lost no packet.

    `delivered`: the part of the stream that must come back, whatever strongSwan loses. `early`: it may send ESP by an SA before we
    can have read the answer to IKE_AUTH that makes it, as it does for every first CHILD_SA: that ESP has an unknown SPI here.
    """

    def __init__(self, meeting: Meeting, *, delivered: float = PEER_DELIVERS, early: bool = False) -> None:
        self.meeting, self.delivered, self.early = meeting, delivered, early

    def __enter__(self) -> Self:
        self.before = self._counted()
        command = ["ping", "-n", "-q", "-i", str(STREAM_INTERVAL_S), netns.HOST_B[0]]
        self.process = self.meeting.sites.host_a.spawn(*command, stdout=subprocess.DEVNULL)
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        if failure is not None:
            return
        deadline = time.monotonic() + LAST_ANSWER_S
        while True:
            requests, answers, sealed, opened = (now - then for now, then in zip(self._counted(), self.before, strict=True))
            if (sealed, opened) == (requests, answers) or time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        logs = self.meeting.both_logs()
        assert sealed == requests, f"of {requests} requests we sealed {sealed}\n{logs}"
        assert opened == answers, f"we opened {opened} packets, hostA has {answers}\n{logs}"
        lost = self.meeting.lost()
        assert set(lost) <= ({"unknown_spi"} if self.early else set()), logs
        self.meeting.lost_early = lost
        assert answers >= requests * self.delivered > 0, f"{answers} of {requests} answered\n{logs}"

    def _counted(self) -> tuple[int, int, int, int]:
        """Echo requests that hostA's kernel sent, answers that it got, packets that we sealed and opened."""
        names, values = (
            line.split()
            for line in self.meeting.sites.host_a.run("cat", "/proc/net/snmp").stdout.splitlines()
            if line.startswith("Icmp:")
        )
        host = dict(zip(names, values, strict=True))
        gateway = self.meeting.counter("packets_out"), self.meeting.counter("packets_in")
        return int(host["OutEchos"]), int(host["InEchoReps"]), *gateway
