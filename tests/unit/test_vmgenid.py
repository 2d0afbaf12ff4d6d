"""A cloned or restored virtual machine: which uevent says so, and what ends then."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, cast

import pytest

from ipsec_dp.gateway.clone_watch import CloneWatch
from ipsec_dp.host import vmgenid
from ipsec_dp.network.reports import KernelReports
from ipsec_dp.util.clock import SystemClock

NEWS = b"change@/devices/LNXSYSTM:00/VMGENCTR:00\0ACTION=change\0NEW_VMGENID=1\0"


@pytest.mark.parametrize(
    ("message", "port", "is_one"),
    [(NEWS, 0, True), (NEWS, 4711, False), (b"add@/devices/x\0ACTION=add\0", 0, False), (b"NEW_VMGENID=10\0", 0, False)],
)
def test_only_the_kernels_own_word_for_it_counts(message, port, is_one):
    assert vmgenid.is_new_generation(message, (port, 1)) is is_one


class Recorded:
    """Notes the calls of its methods in a list that others may share."""

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return lambda: self._calls.append(name)


@pytest.mark.parametrize(("changed", "called"), [(True, ["expire_all", "cloned"]), (False, [])])
def test_esp_and_ike_sas_end(monkeypatch, changed, called):
    """ESP first: that is where a nonce is used twice soonest."""
    calls: list[str] = []
    plane, ike = cast("Any", Recorded(calls)), cast("Any", Recorded(calls))
    one = CloneWatch(plane, ike)

    async def life() -> None:
        kernel, ours = socket.socketpair()
        read = asyncio.Event()

        def drain(uevents: socket.socket) -> bool:
            uevents.recv(1)
            read.set()
            return changed

        monkeypatch.setattr(vmgenid, "listen", lambda: ours)
        monkeypatch.setattr(vmgenid, "drain", drain)
        with kernel, contextlib.closing(KernelReports(SystemClock()).machine_clones(one.cloned)):
            kernel.send(b"x")
            await asyncio.wait_for(read.wait(), 5)

    asyncio.run(life())
    assert calls == called
