"""A cloned machine is noticed by a uevent; which one, and what ends then: test_vmgenid.py."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any, cast

from ipsec_dp.gateway.clone_watch import CloneWatch
from ipsec_dp.host import vmgenid
from ipsec_dp.network.reports import KernelReports
from ipsec_dp.util.clock import SystemClock
from tests.unit.gateway_doubles import Calls, until


def test_a_uevent_is_read_when_it_comes_and_the_socket_goes_with_the_watch(monkeypatch):
    plane, (ours, kernel) = Calls("plane"), socket.socketpair()
    monkeypatch.setattr(vmgenid, "listen", lambda: ours)
    monkeypatch.setattr(vmgenid, "drain", lambda uevents: uevents.recv(100) == b"cloned")

    async def run() -> None:
        watch = CloneWatch(cast("Any", plane), cast("Any", Calls("ike", plane.calls)))
        with contextlib.closing(KernelReports(SystemClock()).machine_clones(watch.cloned)):
            kernel.send(b"cloned")
            await until(lambda: bool(plane.calls))

    with kernel:
        asyncio.run(run())
    assert plane.calls == [("plane.expire_all",), ("ike.cloned",)]
    assert ours.fileno() == -1


def test_a_kernel_without_uevents_is_no_failure(monkeypatch, caplog):
    def listen() -> None:
        raise OSError(93, "Protocol not supported")

    monkeypatch.setattr(vmgenid, "listen", listen)
    caplog.set_level(logging.INFO, "ipsec_dp")

    async def run() -> None:
        KernelReports(SystemClock()).machine_clones(CloneWatch(cast("Any", None), cast("Any", None)).cloned).close()

    asyncio.run(run())
    assert "goes unnoticed: Protocol not supported" in caplog.text
