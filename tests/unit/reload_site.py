"""A gateway that reloads: the file is read in this process; the host is in memory, the data plane and what makes SAs are lists of
calls."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, cast

from ipsec_dp.databases.spd import Spd
from ipsec_dp.gateway.reload import Reloader, ReloadParts
from ipsec_dp.host import HostError
from tests.doubles.clock import FakeClock
from tests.doubles.host import MemoryHost
from tests.unit.gateway_doubles import TEXT, Calls, config_of

if TYPE_CHECKING:
    import threading

MORE = """
[[tunnel]]
name = "more"
remote = "192.0.2.9"
interface = "ipsec2"
  [[tunnel.proxy_id]]
  local = "10.1.0.0/16"
  remote = "10.9.0.0/16"
  [tunnel.auth]
  psk_file = "all.psk"
  remote_id = "more.example"
"""
WITHOUT_BY_HAND = TEXT[: TEXT.index("[[tunnel]]")] + TEXT[TEXT.index('[[tunnel]]\nname = "up"') :]
WITHOUT_UP = TEXT[: TEXT.index('[[tunnel]]\nname = "up"')] + TEXT[TEXT.index('[[tunnel]]\nname = "waiting"') :]


class Host(MemoryHost):
    """One that nobody else changes meanwhile. `fails`: what the kernel refuses."""

    fails: str | None = None
    spared = 0  # times that it does not yet

    def note(self, what: str) -> None:
        assert self.changing.locked(), "others change the host meanwhile"
        if what == self.fails and self.spared:
            self.spared -= 1
        elif what == self.fails:
            raise HostError(f"{what}: the kernel refuses")
        super().note(what)


class Plane(Calls):
    """A data plane with one worker, as a list of calls."""

    workers = 1


class Site:
    """A gateway with TEXT in force. `calls` is what was asked of its parts, in order; of the host, what the double notes."""

    def __init__(self, directory) -> None:
        self.directory = directory
        self.config = config_of(directory)
        self.in_force: list[Any] = []
        self.waiting = 0  # removed SAs that a loop still holds
        self.spd = Spd(self.config)
        self.clock = clock = FakeClock()
        self.host = Host(self.config, clock)
        self.calls: list[Any] = self.host.calls
        self.plane = cast("Any", Plane("plane", self.calls))
        self.service = Calls("services", self.calls, apply=self._applied)
        self.observer = Calls("observer", self.calls)
        parts = ReloadParts(
            self.spd,
            self.host,
            self.plane,
            cast("Any", Calls("sad", self.calls, reclaim=lambda: self.waiting)),
            cast("Any", Calls("links", [], link=0)),
            cast("Any", Calls("manual", self.calls)),
            cast("Any", Calls("ike", self.calls, peer=lambda name: f"the peer of {name}", reconfigure=self._applied)),
            cast("Any", self.service),
            (cast("Any", self.observer),),
            self._first_mtu,
            self._before_routes,
        )
        self.slow: threading.Event | None = None  # for which whoever opens files waits
        self.helper_fails: HostError | None = None
        self.needed: list[list[list[str]]] = []  # after each step, of which configurations files may be read: their tunnels
        self.reloader = Reloader(self.config, parts, self._reconfigured, clock, in_force=self._told_needed)
        asyncio.run(self._start())

    async def _start(self):
        async with self.host.changing:
            await self.host.interfaces.make(AsyncExitStack(), self.plane, self.spd)
            await self.host.interfaces.set_mtus({tunnel.name: 1400 for tunnel in self.config.tunnels})
            self.host.start_workers(self.plane)
        self.calls.clear()

    async def _applied(self, *_arguments): ...

    def _told_needed(self, configs):
        if self.slow is not None:
            assert self.slow.wait(10)
        if self.helper_fails is not None:
            raise self.helper_fails
        self.needed.append([[tunnel.name for tunnel in config.tunnels] for config in configs])

    async def _reconfigured(self, config):
        self.in_force.append(config)

    async def _before_routes(self, config):
        self.calls.append(("before routes", config))

    async def _first_mtu(self, _tunnel):
        return 1380

    def reload(self, text, **how):
        (self.directory / "a.toml").write_text(text)
        return asyncio.run(self.reloader.reload(self.directory / "a.toml", **how))

    def confirmed(self):
        async def life():
            self.reloader.forget_former()
            await others()

        asyncio.run(life())

    @property
    def names(self):
        return [call if isinstance(call, str) else call[0] for call in self.calls]

    def asked(self, *names):
        """Those of the calls, in order."""
        return [call for call, name in zip(self.calls, self.names, strict=True) if name in names]


async def others():
    """Until every other task is at its end."""
    await asyncio.wait(asyncio.all_tasks() - {cast("Any", asyncio.current_task())})
