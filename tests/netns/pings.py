"""Echo requests from before two gateways start, and which of them are lost once one has passed between them."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from ipsec_dp.rig import netns

if TYPE_CHECKING:
    from ipsec_dp.rig.netns import TwoSites

PINGS = 300
INTERVAL_S = 0.02


class Pings:
    """From hostA to hostB, 20 ms apart. They pass in clear until a guard is closed; what counts comes after that."""

    def __init__(self, sites: TwoSites) -> None:
        command = ["ping", "-n", "-i", str(INTERVAL_S), "-W", "1", netns.HOST_B[0]]
        self.process = sites.host_a.spawn(*command, stdout=subprocess.PIPE)

    def lost(self) -> list[int]:
        """Which of `PINGS` requests have no answer, from the first one that passed in ESP."""
        found, first = [0], 0
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if (match := re.search(rb"icmp_seq=(\d+) ttl", line)) is None:
                continue
            number = int(match[1])
            if not first and number > found[-1] + 1:
                first = number
            found.append(number)
            if first and number >= first + PINGS + 10:  # the last ones have had their time
                break
        self.process.terminate()
        self.process.wait()
        assert first
        return sorted(set(range(first, first + PINGS)) - set(found))
