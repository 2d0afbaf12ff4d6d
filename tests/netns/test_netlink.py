"""Rtnetlink: what several ask at once on one socket."""

from __future__ import annotations

import asyncio
import socket

from ipsec_dp.host.netlink import dump, open_netlink
from tests.netns import harness


def test_dumps_at_once_wait_for_each_other(sites):
    async def together():
        async with open_netlink() as ipr:
            return await asyncio.gather(*(dump(ipr.get_addr, family=socket.AF_UNSPEC) for _ in range(20)))

    found = [len(rows) for rows in harness.run(sites.gw_a, together)]
    assert found == [found[0]] * 20
    assert found[0] > 4
